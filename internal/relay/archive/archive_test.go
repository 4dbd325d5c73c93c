package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.edu/gatepost/internal/mail"
	"example.edu/gatepost/internal/relay/spool"
)

func open(t *testing.T) *spool.Spool {
	t.Helper()
	s, err := spool.Open(spool.Options{Dir: filepath.Join(t.TempDir(), "spool"), Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t *testing.T, s *spool.Spool, text string) *spool.Entry {
	t.Helper()
	env := mail.Envelope{
		From: mail.Address{Local: "scanner", Domain: "physics.example.edu"}, Client: netip.MustParseAddr("192.0.2.7"),
		To:           []mail.Recipient{{Address: mail.Address{Local: "a", Domain: "b.example"}, Notify: "SUCCESS,DELAY"}, {Address: mail.Address{Local: "c", Domain: "d.example"}}},
		Registration: "registrations/physics/mfp.cue", Ret: "HDRS", EnvID: "x=1", Arrival: time.Date(2026, 11, 23, 8, 0, 0, 0, time.UTC),
	}
	e, err := s.Store(t.Context(), env, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// tarOf exports a whole spool.
func tarOf(t *testing.T, s *spool.Spool) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(s, &b)
	if err := s.Entries(w.Add); err != nil {
		t.Fatal(err)
	}
	if err := w.AddDamaged(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func all(t *testing.T, s *spool.Spool) (lines []string) {
	t.Helper()
	err := s.Entries(func(e *spool.Entry) error {
		text, err := json.Marshal(e)
		if err != nil {
			return err
		}
		r, err := s.Body(e.ID)
		if err != nil {
			return err
		}
		defer r.Close()
		body, err := io.ReadAll(r)
		lines = append(lines, string(text)+"\n"+string(body))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestThereAndBack: what is exported into a folder and imported from it is what
// it was, short or long, with its state; a second time nothing comes.
func TestThereAndBack(t *testing.T) {
	from := open(t)
	for _, text := range []string{"Subject: short\r\n\r\nx\r\n", "", strings.Repeat("a line\r\n", 50_000)} {
		e := put(t, from, text)
		e.Attempts, e.Hold, e.Next = 3, "by alice", time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
		e.State[1] = spool.RecipientState{Done: true, Last: mail.Result{Outcome: mail.Delivered}}
		if err := from.Update(e); err != nil {
			t.Fatal(err)
		}
	}
	want := all(t, from)
	dir := filepath.Join(t.TempDir(), "export")
	summary, err := Unpack(t.Context(), bytes.NewReader(tarOf(t, from)), dir, nil)
	if err != nil || summary.Messages != 3 {
		t.Fatalf("%+v, %v", summary, err)
	}
	to := open(t)
	pack := func() io.Reader {
		var b bytes.Buffer
		if err := Pack(t.Context(), dir, &b, func(r Refusal) { t.Errorf("skipped %+v", r) }, nil); err != nil {
			t.Fatal(err)
		}
		return &b
	}
	report, err := Read(t.Context(), pack(), to, false)
	if err != nil || report.Imported != 3 || report.Refused != 0 || !report.Whole {
		t.Fatalf("%+v, %v", report, err)
	}
	if got := all(t, to); !slices.Equal(got, want) {
		t.Errorf("got  %.3000q\nwant %.3000q", got, want)
	}
	if report, err = Read(t.Context(), pack(), to, false); err != nil || report.Present != 3 || report.Imported != 0 {
		t.Errorf("a second time: %+v, %v", report, err)
	}
	for _, line := range want { // they leave the queue
		var e spool.Entry
		if err := json.Unmarshal([]byte(strings.SplitN(line, "\n", 2)[0]), &e); err != nil {
			t.Fatal(err)
		}
		if err := to.Remove(e.ID); err != nil {
			t.Fatal(err)
		}
	}
	if report, err = Read(t.Context(), pack(), to, false); err != nil || report.Before != 3 || report.Imported != 0 {
		t.Errorf("once they are delivered: %+v, %v", report, err)
	}
	if report, err = Read(t.Context(), pack(), to, true); err != nil || report.Imported != 3 {
		t.Errorf("again: %+v, %v", report, err)
	}
	if got := all(t, to); !slices.Equal(got, want) {
		t.Error("again: they differ")
	}
}

// A member of a tar stream.
type member struct {
	name string
	text string
	typ  byte
}

func stream(t testing.TB, members ...member) io.Reader {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := &tar.Header{Name: m.name, Size: int64(len(m.text)), Typeflag: m.typ, Mode: 0o600}
		if m.typ == 0 {
			h.Typeflag = tar.TypeReg
		} else {
			h.Size, h.Linkname = 0, "/etc/passwd"
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if m.typ == 0 {
			io.WriteString(w, m.text)
		}
	}
	w.Close()
	return &b
}

// one is a whole message as an export has it, changed by edits of its JSON.
func one(t *testing.T, body string, edits ...string) (id string, head, message member) {
	t.Helper()
	s := open(t)
	e := put(t, s, body)
	r := tar.NewReader(bytes.NewReader(tarOf(t, s)))
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	changed := string(text)
	for i := 0; i+1 < len(edits); i += 2 {
		if !strings.Contains(changed, edits[i]) {
			t.Fatalf("there is no %q in %s", edits[i], changed)
		}
		changed = strings.Replace(changed, edits[i], edits[i+1], 1)
	}
	id = string(e.ID)
	return id, member{name: id + ".json", text: changed}, member{name: id + ".eml", text: body}
}

// TestWhatIsNotImported: one message is at fault, and one beside it comes in.
func TestWhatIsNotImported(t *testing.T) {
	const good = "Subject: x\r\n\r\nbody\r\n"
	tests := []struct {
		name  string
		body  string
		edits []string
		why   string
	}{
		{"a bare LF", "Subject: x\r\n\r\nbody\n", nil, "a line does not end in CRLF"},
		{"a bare CR", "Subject: x\r\n\r\nbo\rdy\r\n", nil, "a line does not end in CRLF"},
		{"a smuggled end", "Subject: x\r\n\r\n\n.\r\nMAIL FROM:<>\r\n", nil, "a line does not end in CRLF"},
		{"no end of the last line", "Subject: x\r\n\r\nbody", nil, "its last line does not end in CRLF"},
		{"a CR at the end", "Subject: x\r\n\r\nbody\r", nil, "its last line does not end in CRLF"},
		{"another checksum", good, []string{`"crc32c": `, `"crc32c": 7, "was": `}, "the checksum differs"},
		{"another size", good, []string{`"size": 20`, `"size": 21`}, "its envelope says 21"},
		{"no version", good, []string{`"version": 1`, `"version": 0`}, "has no version"},
		{"no JSON", good, []string{`{`, `[`}, "its envelope"},
		{"another id", good, []string{`"id": "`, `"id": "0`}, "the envelope is of"},
		{"a command in RET", good, []string{`"HDRS"`, `"HDRS\r\nRCPT TO:<x@y>"`}, "ret is neither"},
		{"a command in NOTIFY", good, []string{`"SUCCESS,DELAY"`, `"SUCCESS\r\nX"`}, "notify is no list"},
		{"a line end in ENVID", good, []string{`"x=1"`, `"x\n1"`}, "envID is not one line"},
		{"a body type", good, []string{`"ret"`, `"body": "BINARYMIME", "ret"`}, "body is no type"},
		{"no recipients", good, []string{`"to": [`, `"to": [], "was": [`, `"state": [`, `"state": [], "was": [`}, "without recipients"},
		{"fewer states", good, []string{`"state": [`, `"state": [], "was": [`}, "2 recipients and 0 states"},
		{"an address that is none", good, []string{`"a@b.example"`, `"a@b.example> X:<y"`}, "its envelope"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, head, message := one(t, test.body, test.edits...)
			_, otherHead, other := one(t, good)
			to := open(t)
			report, err := Read(t.Context(), stream(t, head, message, otherHead, other), to, false)
			if err != nil || report.Imported != 1 || report.Refused != 1 || !strings.Contains(fmt.Sprint(report.Reasons), test.why) {
				t.Errorf("%+v, %v", report, err)
			}
			if got := all(t, to); len(got) != 1 || !strings.Contains(got[0], other.name[:15]) {
				t.Errorf("in the spool: %q", got)
			}
		})
	}
}

// TestHostileStreams: names and kinds that are none of an export's, and
// streams that break off. Nothing is written where it does not belong.
func TestHostileStreams(t *testing.T) {
	const good = "Subject: x\r\n\r\nbody\r\n"
	id, head, message := one(t, good)
	end := member{name: "export.json", text: `{"version": 1, "messages": 1}`}
	for _, test := range []struct {
		name     string
		members  []member
		imported int
		refused  int
		read     string // the error of Read; "": none
		unpack   string // the error of Unpack; "": none
	}{
		{"whole", []member{head, message, end}, 1, 0, "", ""},
		{"no end", []member{head, message}, 1, 0, "", "broke off"},
		{"a path", []member{{name: "../x.json", text: "{}"}, head, message, end}, 1, 1, "", "is no file of an export"},
		{"a root", []member{{name: "/etc/cron.d/x", text: "x"}, head, message, end}, 1, 1, "", "is no file of an export"},
		{"another folder", []member{{name: "x/" + id + ".json", text: "x"}, head, message, end}, 1, 1, "", "is no file of an export"},
		{"a link", []member{{name: id + ".json", typ: tar.TypeSymlink}, end}, 0, 1, "", "is no file of an export"},
		{"a device", []member{{name: id + ".eml", typ: tar.TypeChar}, end}, 0, 1, "", "is no file of an export"},
		{"a body of another", []member{head, {name: "0trfq9b8u1cv3k2.eml", text: good}}, 0, 0, "and not its body", "broke off"},
		{"a link for a body", []member{head, {name: id + ".eml", typ: tar.TypeLink}}, 0, 0, "and not its body", "is no file of an export"},
		{"no body", []member{head}, 0, 0, "has no body", "broke off"},
		{"a body alone", []member{message, end}, 0, 1, "", ""},
		{"twice", []member{head, message, head, message, end}, 1, 0, "", "file exists"},
		{"a newer export", []member{head, message, {name: "export.json", text: `{"version": 2}`}}, 0, 0, "newer version (2,", "newer version (2,"},
		{"a newer message", []member{{name: head.name, text: strings.Replace(head.text, `"version": 1`, `"version": 7`, 1)}, message}, 0, 0, "newer version (7,", "broke off"},
	} {
		t.Run(test.name, func(t *testing.T) {
			to := open(t)
			report, err := Read(t.Context(), stream(t, test.members...), to, false)
			if (err == nil) != (test.read == "") || err != nil && !strings.Contains(err.Error(), test.read) {
				t.Errorf("Read: %v, want %q", err, test.read)
			}
			if report.Imported != test.imported || report.Refused != test.refused {
				t.Errorf("%+v", report)
			}
			above := t.TempDir()
			dir := filepath.Join(above, "export")
			_, err = Unpack(t.Context(), stream(t, test.members...), dir, nil)
			if (err == nil) != (test.unpack == "") || err != nil && !strings.Contains(err.Error(), test.unpack) {
				t.Errorf("Unpack: %v, want %q", err, test.unpack)
			}
			left, _ := os.ReadDir(above)
			if want := 0; err == nil {
				want = 1
				if len(left) != want {
					t.Errorf("beside the folder: %v", left)
				}
			} else if len(left) != want {
				t.Errorf("it left %v", left)
			}
		})
	}
}

// TestFoldersAreReadWithCare: links, pipes, and what is no message.
func TestFoldersAreReadWithCare(t *testing.T) {
	const good = "Subject: x\r\n\r\nbody\r\n"
	dir := t.TempDir()
	write := func(m member) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, m.name), []byte(m.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, head, message := one(t, good)
	write(head)
	write(message)
	linked, head2, _ := one(t, good)
	write(head2)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir, linked+".eml")); err != nil {
		t.Fatal(err)
	}
	piped, _, message3 := one(t, good)
	write(message3)
	if err := syscall.Mkfifo(filepath.Join(dir, piped+".json"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, alone := one(t, good)
	write(alone)
	write(member{name: "notes.txt", text: "x"})
	var b bytes.Buffer
	var skipped []string
	if err := Pack(t.Context(), dir, &b, func(r Refusal) { skipped = append(skipped, r.Name) }, nil); err != nil {
		t.Fatal(err)
	}
	slices.Sort(skipped)
	want := []string{linked + ".eml", piped + ".json", alone.name, "notes.txt"}
	slices.Sort(want)
	if !slices.Equal(skipped, want) {
		t.Errorf("skipped %v, want %v", skipped, want)
	}
	report, err := Read(t.Context(), &b, open(t), false)
	if err != nil || report.Imported != 1 || report.Refused != 0 || report.Whole {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestAFolderThatIsThere is left as it was.
func TestAFolderThatIsThere(t *testing.T) {
	_, head, message := one(t, "")
	dir := t.TempDir()
	if _, err := Unpack(t.Context(), stream(t, head, message), dir, nil); err == nil {
		t.Error("half an export was taken for a whole one")
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("it left %v", left)
	}
	mine := filepath.Join(dir, "mine")
	if err := os.WriteFile(mine, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Unpack(t.Context(), stream(t, head, message), dir, nil); err == nil || !strings.Contains(err.Error(), fs.ErrExist.Error()) {
		t.Errorf("a folder with a file: %v", err)
	}
	if text, err := os.ReadFile(mine); err != nil || string(text) != "x" {
		t.Errorf("%q, %v", text, err)
	}
}

// FuzzRead holds any stream to: no panic, and what is imported reads back.
func FuzzRead(f *testing.F) {
	f.Add([]byte("x"))
	const id = "1j13ksvvpkq85hl"
	for _, text := range []string{"{}", `{"version": 1, "id": "` + id + `", "size": 3, "crc32c": 1, "envelope": {"to": [{"address": "a@b.example"}]}, "state": [{}]}`} {
		seed, err := io.ReadAll(stream(f, member{name: id + ".json", text: text}, member{name: id + ".eml", text: "x\r\n"}, member{name: SummaryFile, text: `{"version": 1, "messages": 1}`}))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		to := &counter{}
		report, err := Read(t.Context(), bytes.NewReader(data), to, false)
		if err == nil && report.Imported != to.n {
			t.Errorf("%+v, and %d came", report, to.n)
		}
	})
}

// A counter is a sink that reads what it is given.
type counter struct{ n int }

func (c *counter) Import(_ context.Context, _ *spool.Entry, body io.Reader, _ bool) error {
	_, err := io.Copy(io.Discard, body)
	if err == nil {
		c.n++
	}
	return err
}

func (c *counter) Sync() error { return nil }
