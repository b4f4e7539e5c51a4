package knfsd

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"rubus/nfsexport"
)

// TestFoundGivesWay: what an earlier process exported of a root that is published with
// another ID now, as that of a board whose record was restored, is not exported beside it,
// also while it is in doubt what else of it is wanted.
func TestFoundGivesWay(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, "exportfs"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	board, other := netip.MustParseAddr("10.0.0.31"), netip.MustParseAddr("10.0.0.32")
	file := filepath.Join(dir, "rubus.exports")
	left := format([]line{
		{path: roots + "/5b154510/1", client: board, id: 7},
		{path: roots + "/5b154510/1", client: other, id: 7},
		{path: roots + "/b8123456/1", client: other, id: 8},
	}, roots)
	if err := os.WriteFile(file, left, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := New(t.Context(), Options{Roots: roots, File: file})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Doubt(true)
	e := nfsexport.Export{ID: 9, Name: "5b154510", Dir: roots + "/5b154510/1", Client: board, Activity: new(nfsexport.Activity)}
	if err := s.Publish(e); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	ours, _ := parse(text, roots)
	var got []string
	for _, l := range ours {
		got = append(got, fmt.Sprintf("%s %s %d", l.path[len(roots):], l.client, l.id))
	}
	if want := "/5b154510/1 10.0.0.31 9, /b8123456/1 10.0.0.32 8"; strings.Join(got, ", ") != want {
		t.Errorf("exported are %q, want %q", got, want)
	}
}
