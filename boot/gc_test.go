package boot_test

import (
	"os"
	"strings"
	"testing"

	"rubus/boot/record"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/importer"
)

// collect removes every version that may go, and collects: it names those that stay. All
// that boards stand on is where it was.
func (l *lab) collect() string {
	l.Helper()
	uses := func() ([]images.Use, error) { return record.Uses(l.opt.State) }
	list, err := l.store.List()
	must(l.T, err)
	for _, keeps := range []imageref.Ref{{Name: "lab", Version: 2}, {Name: "lab", Version: 1}} {
		_, _ = l.store.Tag(l.Context(), keeps.Name, keeps.Version) // what a name means stays, too
		for _, v := range list {
			_, _ = l.store.Remove(l.Context(), []imageref.Ref{v.Ref}, uses) // those that are in use stay
		}
	}
	_, err = l.store.GC(l.Context(), uses)
	must(l.T, err)
	var stay []string
	list, err = l.store.List()
	must(l.T, err)
	for _, v := range list {
		stay = append(stay, v.Ref.String())
		for _, layer := range v.Layers {
			must(l.T, l.store.Verify(l.Context(), layer.Digest, nil))
		}
	}
	used, err := uses()
	must(l.T, err)
	for _, u := range used {
		for _, digest := range u.Layers {
			if _, err := os.Stat(l.store.LayerDir(digest)); err != nil {
				l.Errorf("%s stands on a layer that is gone: %v", u.Who, err)
			}
		}
	}
	return strings.Join(stay, " ")
}

// At no step of a board's move does a collection take what the board stands on, may go back
// to, or is to move to; nor what its snapshots stand on. What nobody needs any more goes.
func TestCollectionSparesMoves(t *testing.T) {
	l, _, x := upLab(t)
	dir := t.TempDir()
	put(t, dir, "boot/config.txt", "of nobody")
	_, _, err := importer.Import(t.Context(), l.store, "other", dir, importer.Options{})
	must(t, err)
	want := func(step, versions string) {
		t.Helper()
		if got := l.collect(); got != versions {
			t.Errorf("%s: %q stay, want %q", step, got, versions)
		}
	}
	l.put(x, "mine", "second")
	want("pending", "lab@1 lab@2")
	l.restart()
	want("pending, after a restart", "lab@1 lab@2")
	l.loads()
	want("on trial", "lab@1 lab@2")
	l.restart()
	want("on trial, after a restart", "lab@1 lab@2")
	y := l.loads()
	l.reports(y)
	want("good", "lab@1 lab@2")
	l.settles(y)
	if all := l.snapshots(); len(all) != 1 {
		t.Fatalf("snapshots %q", all)
	}
	want("what it had is a snapshot", "lab@1 lab@2")
	_, err = l.fleet.Undo(t.Context(), serialA, nil)
	must(t, err)
	want("undoing", "lab@1 lab@2")
	z := l.loads()
	if l.golden(z) != "one" || l.read(z, "mine") != "second" {
		t.Fatalf("undone, and it has %q, %q", l.golden(z), l.read(z, "mine"))
	}
	l.reports(z)
	l.settles(z)
	want("undone", "lab@1 lab@2")
	for _, s := range l.allSnapshots() {
		must(t, l.fleet.RemoveSnapshot(t.Context(), serialA, s))
	}
	want("undone, and no snapshot", "lab@1")
	must(t, l.fleet.Stop(t.Context(), serialA))
	if again := l.boots(serialA, macA, addrA); l.read(again, "mine") != "second" {
		t.Errorf("after all collections it has %q", l.read(again, "mine"))
	}
}

func (l *lab) allSnapshots() (out []int) {
	l.Helper()
	all, err := l.fleet.Snapshots(serialA)
	must(l.T, err)
	for _, s := range all {
		out = append(out, s.N)
	}
	return out
}
