package book

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"example.edu/gatepost/internal/durable"
)

// Every file is one JSON value that says of which version it is.
const (
	version = 1
	suffix  = ".json"
)

type paper[T any] struct {
	Version int `json:"version"`
	Is      T   `json:"is"`
}

// errNewer is a file that is not damaged and must not be put aside.
var errNewer = errors.New("it is of a newer version of this program")

func encode[T any](v T) ([]byte, error) {
	data, err := json.MarshalIndent(paper[T]{version, v}, "", "\t")
	if err != nil {
		return nil, fmt.Errorf("book: %w", err)
	}
	return append(data, '\n'), nil
}

func decode[T any](data []byte, into *T) error {
	var which struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &which); err != nil {
		return err
	}
	switch {
	case which.Version > version:
		return errNewer
	case which.Version != version:
		return fmt.Errorf("version %d", which.Version)
	}
	p := paper[T]{}
	err := json.Unmarshal(data, &p)
	*into = p.Is
	return err
}

// write replaces a file.
func (b *Book) write(folder, name string, data []byte, most int) error {
	if len(data) > most {
		return fmt.Errorf("book: writing %s: %w: %d octets, and %d is the most", name, ErrTooLarge, len(data), most)
	}
	dir, err := b.folder(folder)
	if err == nil {
		err = durable.WriteFile(filepath.Join(dir, name+suffix), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("book: writing %s: %w", name, err)
	}
	return nil
}

// load reads every file of a folder. What take refuses is damaged.
func load[T any](b *Book, folder string, most int64, take func(name string, v *T) error) error {
	dir, err := b.folder(folder)
	if err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		path := filepath.Join(dir, e.Name())
		if strings.HasPrefix(e.Name(), ".") && !e.IsDir() { // written beside by package durable, and left over by a crash
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		name, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || e.IsDir() { // put aside, or nothing of ours
			continue
		}
		newer := error(nil)
		damage, err := durable.Recover(path, most, func(data []byte) error {
			v := new(T)
			err := decode(data, v)
			if errors.Is(err, errNewer) {
				newer = fmt.Errorf("%s: %w", path, err)
				return nil
			}
			if err == nil {
				err = take(name, v)
			}
			return err
		})
		b.tell(path, damage)
		if err = errors.Join(err, newer); err != nil {
			return err
		}
	}
	return nil
}

func (b *Book) tell(path string, damage error) {
	if damage != nil {
		b.log.Error("a file of what the portal remembers makes no sense and is put aside", "event", "book.damaged", "file", durable.Aside(path), "err", damage)
	}
}
