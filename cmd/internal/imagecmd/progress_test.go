package imagecmd

import (
	"strings"
	"testing"

	"rubus/cmd/internal/cli"
	"rubus/images/importer"
)

// While a command has the terminal nothing is shown beside what it prints.
func TestProgressGivesWay(t *testing.T) {
	var out strings.Builder
	g := &cli.Globals{Stderr: &out, IsTerminal: func(any) bool { return false }}
	p := &importProgress{g: g, rest: true}
	e := importer.Event{Phase: importer.Reading, Read: 1}
	p.update(e)
	if p.show != nil {
		t.Error("shown before it has the terminal")
	}
	p.give(false)
	p.update(e)
	if p.show == nil {
		t.Error("not shown")
	}
	p.give(true)
	if p.update(e); p.show != nil {
		t.Error("shown beside a command")
	}
	p.give(false)
	p.update(importer.Event{Phase: importer.Done})
	if p.show != nil {
		t.Error("shown when all is done")
	}
}
