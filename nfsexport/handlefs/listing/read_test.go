package listing

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTies(t *testing.T) {
	l := Listing{names: "abcdefghij"}
	for i, hash := range []uint64{9, 9, 9, 10, 2, 0, 9, 11} {
		l.ents = append(l.ents, Entry{Cookie: hash, off: uint32(i), n: 1})
	}
	l.order()
	var names string
	last := uint64(CookieDotDot)
	for i := range l.ents {
		if l.ents[i].Cookie <= last {
			t.Errorf("cookie %d after %d", l.ents[i].Cookie, last)
		}
		last = l.ents[i].Cookie
		names += l.Name(&l.ents[i])
	}
	if names != "feabcgdh" {
		t.Errorf("order %q", names)
	}
}

// TestHashGolden holds the cookies still: clients keep them over upgrades.
func TestHashGolden(t *testing.T) {
	for name, want := range map[string]uint64{"": 4320086567632128585, "a": 2353318092356957078, "bash.bashrc": 1029347242810843518} {
		if got := nameHash([]byte(name)); got != want {
			t.Errorf("nameHash(%q) = %d", name, got)
		}
	}
}

// TestRead: directories of all sizes are read, in one order, and of one that has no room what
// follows the cookie. Whoever has a large one was asked for the right to it.
func TestRead(t *testing.T) {
	const files = 5000
	dir := t.TempDir()
	for i := range files {
		if err := os.WriteFile(fmt.Sprintf("%s/file%d", dir, i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	whole := read(t, dir, 0, Large, true)
	if whole.Len() != files || whole.More() || whole.Parent() == 0 || whole.HasRuns() {
		t.Fatalf("%d entries, more: %v, runs: %v", whole.Len(), whole.More(), whole.HasRuns())
	}
	last := uint64(CookieDotDot)
	for i := range whole.Len() {
		e := whole.Entry(i)
		var st unix.Stat_t
		if unix.Lstat(dir+"/"+whole.Name(e), &st) != nil || st.Ino != e.Ino || e.Type != unix.DT_REG && e.Type != unix.DT_UNKNOWN {
			t.Errorf("%q: %+v", whole.Name(e), e)
		}
		if e.Cookie <= last {
			t.Errorf("cookie %d after %d", e.Cookie, last)
		}
		if last = e.Cookie; whole.From(last) != i+1 || whole.From(last-1) != i {
			t.Errorf("entry %d is not the one after its cookie", i)
		}
	}
	const most = 32 << 10
	n, parts := 0, 0
	for cookie := uint64(0); ; parts++ {
		l := read(t, dir, cookie, most, false)
		if l.HasRuns() {
			t.Error("what is known of a part is kept")
		}
		for i := l.From(cookie); i < l.Len(); i++ {
			if got, want := l.Name(l.Entry(i)), whole.Name(whole.Entry(n)); got != want {
				t.Fatalf("entry %d is %q, want %q", n, got, want)
			}
			n, cookie = n+1, l.Entry(i).Cookie
		}
		if !l.More() {
			break
		}
		if l.Bytes() > 2*most {
			t.Errorf("%d bytes are held", l.Bytes())
		}
	}
	if n != files || parts < 2 {
		t.Errorf("%d entries in %d parts", n, parts)
	}
	if l := read(t, t.TempDir(), 0, Large, false); l.Len() != 0 || !l.HasRuns() {
		t.Errorf("an empty directory has %d entries", l.Len())
	}
}

// read lists a directory, which asks for the right to a large listing or does not.
func read(t *testing.T, dir string, cookie uint64, most int, claims bool) *Listing {
	t.Helper()
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	l := New(Moment{}, true)
	asked := false
	if e := l.Read(fd, make([]byte, 4<<10), cookie, most, func() { asked = true }); e != 0 {
		t.Fatal(e)
	}
	if asked != claims {
		t.Errorf("asked for the right to a large listing: %v", asked)
	}
	return l
}
