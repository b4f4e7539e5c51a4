package flight

import (
	"path"
	"slices"
	"strings"
	"time"
)

// facts are what the rules look at: a Timeline, sorted.
type facts struct {
	t   Timeline
	now time.Time

	discovers, unanswered, offered, heard []Event
	files, refused, console, warned       []Event
	prepared, blocked, mounted, called    *Event
	running, good, failed, stopped        *Event
	// kernel is the kernel that the board has whole.
	kernel *Event
	// after is the first thing heard of the board once it had its kernel.
	after *Event
}

func factsOf(t Timeline, now time.Time) *facts {
	f := &facts{t: t, now: now}
	for i := range t.Events {
		e := &t.Events[i]
		if f.kernel != nil && f.after == nil && slices.Contains([]Kind{Heard, Requested, Mounted, Refused, Console}, e.Kind) {
			f.after = e
		}
		switch e.Kind {
		case Discover:
			f.discovers = append(f.discovers, *e)
		case Unanswered:
			f.unanswered = append(f.unanswered, *e)
		case Offered:
			f.offered = append(f.offered, *e)
		case Heard:
			f.heard = append(f.heard, *e)
		case File:
			f.files = append(f.files, *e)
		case Refused:
			f.refused = append(f.refused, *e)
		case Console:
			f.console = append(f.console, *e)
		case Warned:
			f.warned = append(f.warned, *e)
		case Prepared:
			f.prepared, f.blocked = e, nil
		case Blocked:
			f.blocked = e
		case Mounted:
			f.mounted = e
		case Called:
			f.called = e
		case Running:
			f.running = e
		case Good:
			f.good = e
		case Failed:
			f.failed = e
		case Stopped:
			f.stopped = e
		}
		// prepared may come later than nothing of it: names are looked at as they come.
		if e.Kind == File && e.Outcome == Whole && f.isKernel(e.Name) {
			f.kernel = e
		}
	}
	return f
}

// isKernel says whether a file is a kernel: one that the boot files were
// settled on, or one with a kernel's name.
func (f *facts) isKernel(name string) bool {
	base := path.Base(name)
	if f.prepared != nil && slices.Contains(strings.Split(f.prepared.Name, ","), name) {
		return true
	}
	return strings.HasPrefix(base, "kernel") && strings.HasSuffix(base, ".img") ||
		strings.HasPrefix(base, "vmlinuz") || base == "Image"
}

// model names the board in a sentence: "a Pi 5".
func (f *facts) model() string {
	for _, e := range f.discovers {
		switch {
		case e.Revision.Known():
			name, _, _ := strings.Cut(e.Revision.String(), " 1.")
			if strings.HasPrefix(name, "CM") {
				return "the " + name
			}
			return "the Pi " + name
		case e.Stage == "pi3-rom":
			return "the Pi 3"
		}
	}
	return "the board"
}

// stage is the firmware that asked last.
func (f *facts) stage() string {
	if n := len(f.discovers); n > 0 {
		return f.discovers[n-1].Stage
	}
	return ""
}

// missing lists the names of missing files that a test picks, each once.
func (f *facts) missing(pick func(string) bool) []string {
	var out []string
	for _, e := range f.files {
		if e.Outcome == Missing && pick(e.Name) && !slices.Contains(out, e.Name) {
			out = append(out, e.Name)
		}
	}
	return out
}

// got says whether the board has, or saw, a file that a test picks.
func (f *facts) got(pick func(string) bool) bool {
	return slices.ContainsFunc(f.files, func(e Event) bool {
		return (e.Outcome == Whole || e.Outcome == Probed) && pick(e.Name)
	})
}

// grace is how long the next step may take before its absence means something.
const (
	graceDHCP   = 15 * time.Second // several DISCOVERs
	graceFile   = 40 * time.Second // 30 s for a file, and its end
	graceKernel = 75 * time.Second
	graceGood   = 10 * time.Minute
)

// underWay says in words what the board does when it is too early to judge; ""
// when it is not.
func (f *facts) underWay() string {
	if f.t.Over {
		return ""
	}
	within := func(e Event, d time.Duration) bool { return f.now.Sub(e.Time) < d }
	switch {
	case f.running != nil:
		if f.prepared != nil && f.prepared.Reports && within(*f.running, graceGood) {
			return "user space runs and has not reported yet"
		}
	case f.called != nil && within(*f.called, graceKernel), f.mounted != nil && within(*f.mounted, graceKernel):
		return "its root is mounted, init is not read yet"
	case f.mounted != nil:
	case f.kernel != nil && within(*f.kernel, graceKernel):
		return "it has its kernel, which has not asked for the root yet"
	case f.kernel != nil:
	case len(f.files) > 0 && within(f.files[len(f.files)-1], graceFile):
		return "it reads its files, " + f.files[len(f.files)-1].Name + " last"
	case len(f.files) > 0:
	case len(f.discovers) > 0 && within(f.discovers[0], graceDHCP):
		return "it asks for an address and a boot server"
	}
	return ""
}

// since is a time of the boot in words: "12.3 s" after its begin.
func (f *facts) since(e *Event) string { return seconds(e.Time.Sub(f.t.Begin)) }
