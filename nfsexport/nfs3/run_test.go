package nfs3

import (
	"bytes"
	"reflect"
	"testing"
)

// inRuns gives a listing in runs, from anywhere in them on.
type inRuns struct {
	*fakeFS
	runs []Run
}

const inRun = 7

func newInRuns(fs *fakeFS) *inRuns {
	f := &inRuns{fakeFS: fs}
	for i := range fs.list {
		if i%inRun == 0 {
			f.runs = append(f.runs, MakeRun(inRun, 0, 0)) // it grows
		}
		f.runs[i/inRun].Add(&fs.list[i])
	}
	return f
}

func (f *inRuns) ReadDir(c *Call, dir []byte, cookie uint64, verf *uint64, plus bool, to Entries, a *PostAttr) (bool, Status) {
	if !plus {
		return f.fakeFS.ReadDir(c, dir, cookie, verf, plus, to, a)
	}
	*a = f.post
	for i := int(cookie); i < len(f.list); { // cookies are 1, 2, ...
		r := &f.runs[i/inRun]
		n := to.AddRun(r, i%inRun)
		if i += n; n < r.Len()-(i-n)%inRun {
			return false, OK
		}
	}
	return true, OK
}

// TestRun: a reply is the same, byte for byte, whether entries are given one by one or in
// runs, for any sizes.
func TestRun(t *testing.T) {
	fs := sample()
	manyEntries(fs, 100)
	runs := newInRuns(fs)
	for cookie := range uint64(101) {
		for _, max := range []int{120, 500, 1000, 4096, 32768} {
			for _, names := range []int{0, 100, 300, 2000, max} {
				want, st := list(t, fs, true, cookie, names, max)
				got, gotSt := list(t, runs, true, cookie, names, max)
				if !reflect.DeepEqual(got, want) || gotSt != st {
					t.Fatalf("after %d, sizes %d and %d: %+v, %v; one by one %+v, %v", cookie, names, max, got, gotSt, want, st)
				}
			}
		}
	}
	var e Entry
	for i := range fs.list {
		fs.list[i].Attr.Attr = sample().post.Attr
		if !fs.list[i].Attr.OK {
			fs.list[i].Attr.Attr = Attr{}
		}
	}
	of := MakeRun(0, 0, 0)
	for i, r := range newInRuns(fs).runs {
		for j := range r.Len() {
			of.AddOf(&r, j)
			want := fs.list[i*inRun+j]
			if of.Entry(of.Len()-1, &e); e.Name != want.Name || e.FileID != want.FileID || e.Cookie != want.Cookie ||
				e.Attr != want.Attr || string(e.Handle) != string(want.Handle) || string(of.Handle(of.Len()-1)) != string(want.Handle) {
				t.Fatalf("entry %d is %+v, want %+v", i*inRun+j, e, want)
			}
		}
	}
	for i, want := range fs.list {
		if !want.Attr.OK || len(want.Handle) == 0 {
			continue
		}
		as := MakeRun(0, 0, 0)
		want.Attr.FSID, want.Handle = 0x123456789abcdef0, bytes.Repeat([]byte{9}, len(want.Handle))
		as.AddFor(&of, i, want.Attr.FSID, want.Handle)
		if as.Entry(0, &e); !reflect.DeepEqual(e, want) {
			t.Errorf("entry %d as another export has it is %+v, want %+v", i, e, want)
		}
	}
	n := 0
	EntryFunc(func(e *Entry) bool { n++; return e.Cookie < 50 }).AddRun(&of, 10)
	if n != 40 {
		t.Errorf("%d entries were given one by one", n)
	}
}
