package progress

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
)

// State is how far something is.
type State struct {
	// Phase is what is being done, in one word.
	Phase string
	// Done and Total count bytes; Total is 0 while it is unknown.
	Done, Total int64
	// Files counts files; 0 isn't shown.
	Files int64
	// Of, when not "", stands in the place of all these: which of several things it is.
	Of string
}

// String is one line for people.
func (s State) String() string {
	if s.Of != "" {
		return s.Phase + " " + s.Of
	}
	out := s.Phase + " " + Bytes(s.Done)
	if s.Total > 0 {
		out += fmt.Sprintf(" of %s (%d%%)", Bytes(max(s.Total, s.Done)), s.percent()) // a layer on top comes late
	}
	switch {
	case s.Files == 1:
		out += ", 1 file"
	case s.Files > 0:
		out += fmt.Sprintf(", %d files", s.Files)
	}
	return out
}

func (s State) percent() int64 { return min(100, int64(100*float64(s.Done)/float64(s.Total))) }

// Bytes writes a size with the unit that gives it at most four digits.
func Bytes(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 || v >= 10 {
		return fmt.Sprintf("%.0f %s", v, units[i])
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// Display shows states. Update and End may be called by different goroutines.
type Display interface {
	// Update shows a newer state.
	Update(State)
	// End takes the display down: nothing of it is written afterwards.
	End()
}

// New gives a bar when terminal, else lines that begin with prefix, at most one every five
// seconds and one for each new phase.
func New(w io.Writer, terminal bool, prefix string) Display {
	if terminal {
		return newBar(w)
	}
	return &Lines{W: w, Prefix: prefix, Every: 5 * time.Second, Now: time.Now}
}

// Lines writes plain lines: for logs and pipes.
type Lines struct {
	W      io.Writer
	Prefix string
	// Every is the least time between two lines of one phase.
	Every time.Duration
	Now   func() time.Time

	mu          sync.Mutex
	phase       string
	begun, last time.Time
}

// quiet is how long nothing is said: what ends sooner needs no progress.
const quiet = time.Second

// Update writes a line when it is time for one.
func (l *Lines) Update(s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.Now()
	if l.begun.IsZero() {
		l.begun, l.last, l.phase = now, now, s.Phase
	}
	if now.Sub(l.begun) < quiet || s.Phase == l.phase && now.Sub(l.last) < l.Every {
		return
	}
	l.phase, l.last = s.Phase, now
	fmt.Fprintf(l.W, "%s%s\n", l.Prefix, s)
}

// End does nothing: lines stay.
func (l *Lines) End() {}

// bar draws on a terminal.
type bar struct {
	pool *mpb.Progress
	bar  *mpb.Bar

	mu    sync.Mutex
	state State
	ended bool
}

func newBar(w io.Writer) *bar {
	b := &bar{pool: mpb.New(mpb.WithOutput(w), mpb.WithAutoRefresh(), mpb.WithWidth(30))}
	b.bar = b.pool.New(0,
		mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]"),
		mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(
			decor.Any(func(decor.Statistics) string {
				b.mu.Lock()
				defer b.mu.Unlock()
				return " " + b.state.String()
			}),
			decor.Name(" "),
			decor.Elapsed(decor.ET_STYLE_MMSS),
		),
	)
	return b
}

// Update implements Display.
func (b *bar) Update(s State) {
	b.mu.Lock()
	if b.ended {
		b.mu.Unlock()
		return
	}
	b.state = s
	b.mu.Unlock()
	// The bar would take a full one for its end.
	b.bar.SetTotal(max(s.Total, s.Done)+1, false)
	b.bar.SetCurrent(s.Done)
}

// End implements Display.
func (b *bar) End() {
	b.mu.Lock()
	ended := b.ended
	b.ended = true
	b.mu.Unlock()
	if !ended {
		b.bar.Abort(true)
		b.pool.Wait()
	}
}
