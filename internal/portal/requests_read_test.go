package portal

import (
	"context"
	"errors"
	"testing"
	"time"

	"example.edu/gatepost/internal/register/forge"
	"example.edu/gatepost/internal/register/registration"
)

// A counting forge says how often it was asked what. It has requests up to 600.
type countingForge struct {
	desk
	head                       string
	updated                    time.Time
	data                       []byte // of each request's one file
	gets, files, remarks, list int
}

func (c *countingForge) Get(_ context.Context, number int) (forge.Request, error) {
	c.gets++
	if number > 600 {
		return forge.Request{}, forge.ErrNotFound
	}
	return forge.Request{Number: number, State: forge.Open, Head: c.head, UpdatedAt: c.updated}, nil
}

func (c *countingForge) Files(context.Context, forge.Request) ([]forge.File, error) {
	c.files++
	return []forge.File{{Source: registration.Source{Data: c.data}}}, nil
}

func (c *countingForge) Remarks(context.Context, int) ([]forge.Remark, error) {
	c.remarks++
	return []forge.Remark{{Kind: forge.Approved, Body: "Fine."}, {Kind: forge.Said, Body: "Hm."}}, nil
}

func (c *countingForge) Recent(context.Context, time.Time) ([]forge.Request, error) {
	c.list++
	return nil, nil
}

// countedReader is a reader of a forge that counts, with a clock of its own.
func countedReader() (*dossiers, *countingForge, func(time.Duration)) {
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	now := func() time.Time { return at }
	f := &countingForge{head: "a", updated: at.Add(-time.Hour)}
	d := newDossiers(f, now)
	d.budget = newAskBudget(now)
	return d, f, func(by time.Duration) { at = at.Add(by) }
}

// TestWatchingIsCheap: a page that looks again every two seconds, for an hour and
// in many browsers, asks the forge for little.
func TestWatchingIsCheap(t *testing.T) {
	d, f, pass := countedReader()
	for range 1800 {
		for range 20 {
			v, err := d.get(t.Context(), "dana", 7)
			if err != nil || len(v.Changes) != 1 || len(v.Approvals) != 1 {
				t.Fatal(v, err)
			}
		}
		pass(2 * time.Second)
	}
	if f.gets > 250 || f.files != 1 || f.remarks > 31 {
		t.Errorf("in an hour: %d times the request, %d its files, %d its remarks", f.gets, f.files, f.remarks)
	}
	// What is new is seen all the same, at once where a delivery says so.
	f.head, f.updated = "b", d.now()
	d.forget()
	if v, err := d.get(t.Context(), "dana", 7); err != nil || v.Head != "b" || f.files != 2 {
		t.Errorf("%+v %v; files were read %d times", v, err, f.files)
	}
	before := f.remarks
	pass(20 * time.Second)
	if _, err := d.get(t.Context(), "dana", 7); err != nil || f.remarks != before+1 {
		t.Errorf("right after a change the remarks are not read again: %d, %d, %v", f.remarks, before, err)
	}
}

// TestNobodyUsesUpTheForge: whoever goes through all numbers, there or not, leaves
// others and the reporter their part.
func TestNobodyUsesUpTheForge(t *testing.T) {
	d, f, pass := countedReader()
	refused := 0
	for n := range 3600 {
		if _, err := d.get(t.Context(), "mallory", n+1); errors.Is(err, errAskedTooMuch) {
			refused++
		}
		if _, err := d.recent(t.Context(), "mallory"); err != nil && !errors.Is(err, errAskedTooMuch) {
			t.Fatal(err)
		}
		pass(time.Second)
	}
	if calls := f.gets + 6*f.files + 3*f.remarks + 2*f.list; calls > 2500 || refused < 3000 {
		t.Errorf("about %d calls in an hour, and %d were refused", calls, refused)
	}
	if _, err := d.get(t.Context(), "dana", 3); err != nil {
		t.Errorf("somebody else: %v", err)
	}
	// Somebody else has read 3 meanwhile, so that it is known.
	if v, err := d.get(t.Context(), "mallory", 3); err != nil || v.Number != 3 {
		t.Errorf("what is known is not shown: %v", err)
	}
}

// TestKeptIsBounded: what is remembered of large requests is bounded, and right.
func TestKeptIsBounded(t *testing.T) {
	d, f, pass := countedReader()
	f.data = make([]byte, maxKept/8+1)
	for n := range 30 {
		if v, err := d.get(t.Context(), "dana", n+1); err != nil || v.Number != n+1 {
			t.Fatal(v.Number, err)
		}
		pass(time.Minute)
	}
	sum := 0
	for _, k := range d.kept {
		sum += k.value.octets()
	}
	if sum > maxKept || sum != d.octets || len(d.kept) == 0 {
		t.Errorf("%d requests are kept, of %d octets, counted as %d", len(d.kept), sum, d.octets)
	}
}
