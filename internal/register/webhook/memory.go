package webhook

import "time"

// A memory knows which keys came lately: the newest so many, each for a while.
type memory struct {
	since map[string]time.Time
	order []string // oldest first
	most  int
	lasts time.Duration
}

func newMemory(most int, lasts time.Duration) memory {
	return memory{since: make(map[string]time.Time, most), most: most, lasts: lasts}
}

// seen reports whether one of the keys came lately; if none did, they do now.
func (m *memory) seen(now time.Time, keys ...string) bool {
	for len(m.order) > 0 && now.Sub(m.since[m.order[0]]) >= m.lasts {
		m.drop()
	}
	for _, key := range keys {
		if _, ok := m.since[key]; ok {
			return true
		}
	}
	for _, key := range keys {
		if len(m.order) >= m.most {
			m.drop()
		}
		m.since[key] = now
		m.order = append(m.order, key)
	}
	return false
}

func (m *memory) drop() {
	delete(m.since, m.order[0])
	m.order = m.order[1:]
}
