package imagecmd

import (
	"sync"

	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/progress"
	"rubus/images/importer"
)

// importProgress shows how far an import is, but for the time while commands have the
// terminal.
type importProgress struct {
	g *cli.Globals

	mu   sync.Mutex
	show progress.Display // nil: nothing is shown
	rest bool             // a command has the terminal
}

// update is importer.Options.Progress.
func (p *importProgress) update(e importer.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rest || e.Phase == importer.Done {
		return
	}
	if p.show == nil {
		p.show = p.g.Progress()
	}
	p.show.Update(progress.State{Phase: string(e.Phase), Done: e.Read, Total: e.Total, Files: e.Files})
}

// give gives the terminal to a command, or takes it back.
func (p *importProgress) give(away bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rest = away; away && p.show != nil {
		p.show.End()
		p.show = nil
	}
}

// end takes the display down.
func (p *importProgress) end() { p.give(true) }
