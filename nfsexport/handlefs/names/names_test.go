package names

import (
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"rubus/nfsexport"
	"rubus/nfsexport/handlefs/fhandle"
	"rubus/nfsexport/handlefs/stamp"
)

func stampOf(sec int64) stamp.Stamp {
	return stamp.Of(&unix.Stat_t{Ctim: unix.Timespec{Sec: sec, Nsec: 1}})
}

func keyOf(id nfsexport.ID) (k fhandle.Key) {
	k.SetExport(id)
	return k
}

// TestFind: a name is found in its directory alone, and there for as long as that is as it was.
func TestFind(t *testing.T) {
	n := New()
	k := keyOf(7)
	n.Keep(1, stampOf(5), "there", false, &k)
	n.Keep(1, stampOf(5), "not there", true, &k)
	for _, c := range []struct {
		what string
		dir  uint64
		at   int64
		name string
		want bool
		none bool
	}{
		{"it", 1, 5, "there", true, false},
		{"what is not there", 1, 5, "not there", true, true},
		{"another name", 1, 5, "other", false, false},
		{"another directory", 2, 5, "there", false, false},
		{"the directory after a change", 1, 6, "there", false, false},
	} {
		got := n.Find(c.dir, stampOf(c.at), c.name)
		if got != nil != c.want || got != nil && (got.None != c.none || got.Key != k) {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
	n.Keep(1, stampOf(6), "there", true, &k)
	if got := n.Find(1, stampOf(6), "there"); got == nil || !got.None {
		t.Errorf("after a change it is told: %+v", got)
	}
	for i := range uint64(4 * slots) { // others want the place
		n.Keep(i, stampOf(5), "x", false, &k)
	}
	if n.Find(1, stampOf(6), "there") != nil {
		t.Error("it is remembered, though there is no room")
	}
}

// TestForget: names of an export that ends are let go of, those of others are not.
func TestForget(t *testing.T) {
	n := New()
	mine, other := keyOf(7), keyOf(8)
	n.Keep(1, stampOf(5), "there", false, &mine)
	n.Keep(1, stampOf(5), "not there", true, &mine)
	n.Keep(2, stampOf(5), "another's", false, &other)
	n.Forget(7)
	for name, want := range map[string]bool{"there": false, "not there": false, "another's": true} {
		if got := n.Find(1, stampOf(5), name) != nil || n.Find(2, stampOf(5), name) != nil; got != want {
			t.Errorf("%q is remembered: %v", name, got)
		}
	}
}

// What is remembered of a name does not hold the call that it came with.
func TestCopies(t *testing.T) {
	n := New()
	call := strings.Repeat("name", 1<<10)
	var k fhandle.Key
	n.Keep(1, stampOf(5), call[:4], false, &k)
	if got := n.Find(1, stampOf(5), "name"); got == nil || unsafe.StringData(got.name) == unsafe.StringData(call) {
		t.Errorf("%+v is remembered by the call's own bytes", got)
	}
}
