package registration

// A Pool makes one text of many that are equal: the files of a department say
// much the same. The zero Pool is ready; it must not be used by two goroutines
// at a time, and keeps what it has seen.
type Pool struct{ texts map[string]string }

// Share makes the texts of a file those of the pool, where files tend to repeat
// them. It changes the file, so it is for whoever has just made it.
func (p *Pool) Share(f *File) {
	r := f.Registration
	if r == nil {
		return
	}
	r.Path = f.Path
	for _, text := range []*string{&r.Department, &r.Contact.Name, &r.Contact.Email, &r.Purpose, &r.WhyNoAuth, &r.Bounces} {
		p.share(text)
	}
	for i := range r.Senders {
		p.share(&r.Senders[i])
	}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		for _, text := range []*string{&h.Kind, &h.Device.BareLF, &h.Device.TLS, &h.Device.Commands} {
			p.share(text)
		}
	}
}

func (p *Pool) share(text *string) {
	if p.texts == nil {
		p.texts = make(map[string]string)
	}
	known, ok := p.texts[*text]
	if !ok {
		p.texts[*text] = *text
		return
	}
	*text = known
}
