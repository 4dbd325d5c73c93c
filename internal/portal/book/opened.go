package book

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"example.edu/gatepost/internal/durable"
)

// An Opened is a request that nobody asked for.
type Opened struct {
	Number int       `json:"number"`
	At     time.Time `json:"at"`
}

// Automatic is the request that was opened for a key, such as "renewal lsa-physics
// 2026-12-31". What was opened once is not opened again, whatever became of it.
func (b *Book) Automatic(key string) (Opened, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	o, ok := b.opened[key]
	return o, ok
}

// First is when something was noted first, such as "relay relay1": now, if it never
// was before.
func (b *Book) First(what string) (time.Time, error) {
	key := firstSign + what
	if o, ok := b.Automatic(key); ok {
		return o.At, nil
	}
	at := b.now().UTC()
	return at, b.SetAutomatic(Opened{Number: 1, At: at}, key)
}

// firstSign begins the keys of First, which are never forgotten.
const firstSign = "first "

// NewestAutomatic is the newest request whose key begins so, the zero Opened if
// there is none.
func (b *Book) NewestAutomatic(begins string) (newest Opened) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for key, o := range b.opened {
		if strings.HasPrefix(key, begins) && o.At.After(newest.At) {
			newest = o
		}
	}
	return newest
}

// SetAutomatic notes the request that was opened for some keys, for all or none.
// Whoever crashes between the two finds that request at the forge, and notes it
// then.
func (b *Book) SetAutomatic(o Opened, keys ...string) error {
	b.writing.Lock()
	defer b.writing.Unlock()
	b.mu.RLock()
	next := maps.Clone(b.opened)
	b.mu.RUnlock()
	for _, key := range keys {
		if key == "" || len(key) > 2000 || o.Number < 1 {
			return fmt.Errorf("book: noting request %d for %.300q: no key or number", o.Number, key)
		}
		next[key] = o
	}
	oldest := slices.SortedFunc(maps.Keys(next), func(x, y string) int { return cmp.Or(next[x].At.Compare(next[y].At), cmp.Compare(x, y)) })
	for i, k := range oldest {
		if i >= len(oldest)-b.most.opened && b.now().Sub(next[k].At) < keepOpened || slices.Contains(keys, k) {
			break
		}
		if !strings.HasPrefix(k, firstSign) {
			delete(next, k)
		}
	}
	data, err := encode(next)
	if err != nil {
		return err
	}
	if err := b.write("", "opened", data, maxList); err != nil {
		return err
	}
	b.mu.Lock()
	b.opened = next
	b.mu.Unlock()
	return nil
}

func (b *Book) loadOpened() error {
	if _, err := b.folder(""); err != nil {
		return err
	}
	path := filepath.Join(b.dir, "opened"+suffix)
	newer := error(nil)
	damage, err := durable.Recover(path, maxList, func(data []byte) error {
		err := decode(data, &b.opened)
		if errors.Is(err, errNewer) {
			newer, err = err, nil
		}
		return err
	})
	if damage != nil || b.opened == nil {
		b.opened = map[string]Opened{}
	}
	b.tell(path, damage)
	return errors.Join(err, newer)
}
