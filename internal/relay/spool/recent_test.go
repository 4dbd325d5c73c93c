package spool

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestABodyFromMemory: what was just committed is read from memory, however
// many messages come and go while it is read, and from the disk when its
// first attempt is over.
func TestABodyFromMemory(t *testing.T) {
	s := open(t, vfs.NewMem())
	text := strings.Repeat("one line\r\n", 1000)
	e := put(t, s, []byte(text))
	body, err := s.Body(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, memory := body.(*recentReader); !memory {
		t.Errorf("it is read by a %T", body)
	}
	half := make([]byte, len(text)/2)
	if _, err := io.ReadFull(body, half); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(e); err != nil { // the attempt is over, and its reader is slow
		t.Fatal(err)
	}
	for range 50 {
		other := put(t, s, bytes.Repeat([]byte("another\r\n"), 1111))
		if err := s.Remove(other.ID); err != nil {
			t.Fatal(err)
		}
	}
	rest, err := io.ReadAll(body)
	if err != nil || string(half)+string(rest) != text {
		t.Errorf("%v, and the body is another one", err)
	}
	if err := body.Close(); err != nil {
		t.Error(err)
	}
	again, err := s.Body(e.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, memory := again.(*recentReader); memory {
		t.Error("it is still in memory")
	}
	if got, err := io.ReadAll(again); err != nil || string(got) != text {
		t.Errorf("%v, and from the disk it is another one", err)
	}
}

// TestBodiesInMemoryAreBounded: what finds no room is read from the disk.
func TestBodiesInMemoryAreBounded(t *testing.T) {
	s := open(t, vfs.NewMem())
	text := bytes.Repeat([]byte("a line of the text\r\n"), 3000) // 60 kB
	var ids []ID
	for range recentMax/len(text) + 20 {
		ids = append(ids, put(t, s, text).ID)
	}
	octets := 0
	for _, b := range s.recent.bodies {
		octets += cap(*b.buf)
	}
	if octets > recentMax || octets < recentMax/2 {
		t.Errorf("%d octets are in memory", octets)
	}
	for _, id := range ids {
		body, err := s.Body(id)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("%v, and %s is another one", err, id)
		}
		body.Close()
		if err := s.Remove(id); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Body(id); err == nil {
			t.Fatalf("%s is there after its removal", id)
		}
	}
	if len(s.recent.bodies) != 0 || !s.recent.room.TryAcquire(recentMax) {
		t.Errorf("%d bodies are in memory at the end, or their room is not free", len(s.recent.bodies))
	}
}

// TestAMessageThatGoesAtOnceLeavesNoBody: who sees an entry as soon as its
// record is there, and removes it before Commit has returned, leaves nothing of
// it in memory.
func TestAMessageThatGoesAtOnceLeavesNoBody(t *testing.T) {
	s := open(t, vfs.NewMem())
	stop := make(chan struct{})
	var operator sync.WaitGroup
	operator.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			err := s.Entries(func(e *Entry) error { return s.Remove(e.ID) })
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for i := range 500 {
				put(t, s, body(i, 100))
			}
		})
	}
	senders.Wait()
	close(stop)
	operator.Wait()
	for _, id := range ids(t, s) {
		if err := s.Remove(id); err != nil {
			t.Error(err)
		}
	}
	if n := len(s.recent.bodies); n != 0 || !s.recent.room.TryAcquire(recentMax) {
		t.Errorf("%d bodies are in memory, of no message", n)
	}
}
