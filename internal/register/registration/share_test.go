package registration

import (
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

func TestSharedTextsSayTheSame(t *testing.T) {
	p := newParser(t, "")
	one, two := p.Parse(source(goodPath, good)), p.Parse(source(goodPath, strings.Clone(good)))
	want := *one.Registration
	var pool Pool
	pool.Share(one)
	pool.Share(two)
	pool.Share(p.Parse(source(goodPath, "department: 1"))) // has nothing to share
	if !reflect.DeepEqual(one, two) || !reflect.DeepEqual(*one.Registration, want) {
		t.Errorf("sharing changed\n%+v to\n%+v", want, two.Registration)
	}
	if unsafe.StringData(one.Registration.Purpose) != unsafe.StringData(two.Registration.Purpose) {
		t.Error("two equal texts are still two")
	}
}
