package portal

import "net/http"

func (s *server) homeRoutes(mux *http.ServeMux) {
	mux.HandleFunc("GET /{$}", s.home)
}

// home is the guidelines in plain words.
func (s *server) home(w http.ResponseWriter, r *http.Request) {
	s.pages.Render(w, r, http.StatusOK, "home", s.frame(w, r, nil))
}
