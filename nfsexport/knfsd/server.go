package knfsd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/renameio/v2"

	"rubus/nfsexport"
)

// File is where the exports are named to the host's tools unless Options say
// otherwise: exportfs reads all files of that directory that are so called.
const File = "/etc/exports.d/rubus.exports"

// Options are what a Server is made of.
type Options struct {
	// Roots is the directory below which all roots lie. Its path has letters,
	// digits and "/._-" only, and it is not a mount point.
	Roots string
	// File names the exports to the host's tools; "": File.
	File string
	// Seen is told, from Run, of an export that a client uses, each time it is
	// looked at; nil: nobody is. It may block for a second or so.
	Seen func(ctx context.Context, id nfsexport.ID, client netip.Addr)
	// Logger is told what goes wrong; nil: nobody is.
	Logger *slog.Logger
}

// Server is the host's NFS server as far as our exports go.
type Server struct {
	opt Options
	log *slog.Logger

	// mu is held while the tools run, too: for tens of milliseconds.
	mu      sync.Mutex
	exports map[nfsexport.ID]*export
	// found are exports of an earlier process that were not published since.
	found []line
	// have is what the host exports of ours, as far as is known.
	have    map[line]bool
	doubt   bool
	started bool
	problem string
	seen    *seen
	inits   *inits
}

// export is one that is published.
type export struct {
	nfsexport.Export
	held bool
}

// lines are the export's, one for each address.
func (x *export) lines() (out []line) {
	for _, a := range x.clients() {
		out = append(out, line{path: x.Dir, client: a, id: x.ID, insecure: x.InsecurePorts, held: x.held})
	}
	return out
}

// clients are the addresses that may use the export. None is of IPv6, where clientName
// would be that of a whole network.
func (x *export) clients() (out []netip.Addr) {
	for _, a := range append([]netip.Addr{x.Client}, x.Awaited...) {
		if a = a.Unmap(); a.Is4() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out
}

// New takes up what an earlier process exported. It changes nothing.
func New(ctx context.Context, opt Options) (*Server, error) {
	if opt.File == "" {
		opt.File = File
	}
	s := &Server{opt: opt, log: opt.Logger, exports: map[nfsexport.ID]*export{}, seen: newSeen()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if opt.Roots = filepath.Clean(opt.Roots); !safePath(opt.Roots) {
		return nil, fmt.Errorf("%q cannot be a directory of exports: boards are told it on their kernel's command line, and that takes letters, digits, '/', '.', '_' and '-' only", opt.Roots)
	}
	text, err := os.ReadFile(opt.File)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the file of exports: %w", err)
	}
	ours, foreign := parse(text, opt.Roots)
	if foreign > 0 {
		return nil, fmt.Errorf("%q has lines that are not of the roots below %q: rubus would overwrite them; move them to another file", opt.File, opt.Roots)
	}
	if s.have, err = s.listed(ctx); err != nil {
		return nil, err
	}
	s.found = ours
	for l := range s.have {
		if !slices.ContainsFunc(ours, func(o line) bool { return o.path == l.path && o.client == l.client }) {
			s.found = append(s.found, l)
		}
	}
	if s.inits, err = newInits(s.initRead); err != nil {
		return nil, err
	}
	return s, nil
}

// Close forgets all; the host goes on exporting.
func (s *Server) Close() error { return s.inits.close() }

// Traits say that MOUNTs are answered by the host, by the path of a root, and that
// handles are not authenticated.
func (s *Server) Traits() nfsexport.Traits {
	return nfsexport.Traits{Unasked: true, RealPath: true, Shared: true}
}

// Publish offers an export to its addresses, or changes the one of the same ID.
// Calls on one whose root is not mounted wait. It runs exportfs.
func (s *Server) Publish(e nfsexport.Export) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !strings.HasPrefix(e.Dir, s.opt.Roots+"/") || !safePath(e.Dir) {
		return fmt.Errorf("exporting %q: it is not below %q", e.Dir, s.opt.Roots)
	}
	next := &export{Export: e}
	before := s.exports[e.ID]
	if before != nil {
		next.held = before.held
	}
	if err := s.put(e.ID, next); err != nil {
		return err
	}
	if e.State != nfsexport.Ready {
		return nil
	}
	if err := s.inits.watch(e.ID, e.Dir, e.Init); err != nil {
		s.log.Warn("it will not be seen when a board starts its init", "export", e.Name, "err", err)
	}
	if next.held {
		return nil
	}
	if err := answer(e.ID, e.Dir, next.clients(), time.Now()); err != nil {
		s.log.Warn("calls on a root may wait for two minutes more", "export", e.Name, "err", err)
	}
	return nil
}

// put makes the host export what next says, and nothing else of that ID; nil: no
// more of it. The file comes first: what is exported is found again. s.mu is held.
func (s *Server) put(id nfsexport.ID, next *export) error {
	ctx := context.Background()
	found := s.found
	s.found = slices.DeleteFunc(slices.Clone(found), func(l line) bool {
		// A directory has one ID to its client: two would take it from each other in turn.
		return l.id == id || next != nil && l.path == next.Dir
	})
	before, had := s.exports[id]
	if next != nil {
		s.exports[id] = next
	} else {
		delete(s.exports, id)
	}
	if err := s.writeFile(); err != nil {
		s.found = found
		if had {
			s.exports[id] = before
		} else {
			delete(s.exports, id)
		}
		return err
	}
	want := map[line]bool{}
	if next != nil {
		for _, l := range next.lines() {
			want[l] = true
		}
	}
	return s.bring(ctx, func(l line) bool { return l.id == id }, want)
}

// bring makes of the lines that the host exports, as far as about says, those
// wanted. s.mu is held.
func (s *Server) bring(ctx context.Context, about func(line) bool, want map[line]bool) error {
	var errs []error
	for l := range want {
		if !s.have[l] {
			errs = append(errs, s.add(ctx, l))
		}
	}
	for l := range s.have {
		if about(l) && !want[l] {
			errs = append(errs, s.remove(ctx, l))
		}
	}
	return errors.Join(errs...)
}

// all are the lines that are to be exported. s.mu is held.
func (s *Server) all() []line {
	out := slices.Clone(s.found)
	for _, x := range s.exports {
		out = append(out, x.lines()...)
	}
	return out
}

// writeFile writes the file of exports, unless it says the same. s.mu is held.
func (s *Server) writeFile() error {
	text := format(s.all(), s.opt.Roots)
	if old, err := os.ReadFile(s.opt.File); err == nil && string(old) == string(text) {
		return nil
	}
	dir := filepath.Dir(s.opt.File)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the directory of exports: %w", err)
	}
	if err := renameio.WriteFile(s.opt.File, text, 0o644); err != nil {
		return fmt.Errorf("writing the file of exports: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("syncing the directory of exports: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing the directory of exports: %w", err)
	}
	return nil
}

// Withdraw ends an export, and waits until the kernel's tables have let go of its root:
// for seconds at most. A call that runs, and a file that it left open, may hold it
// longer. For an export that is withdrawn already the kernel is asked to let go of what
// it keeps of all that it serves, which it reads again when it needs it.
func (s *Server) Withdraw(id nfsexport.ID) error {
	s.mu.Lock()
	x := s.exports[id]
	err := s.put(id, nil)
	s.inits.forget(id)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if x == nil {
		_, err := exportfs(context.Background(), "-f")
		return err
	}
	return s.released(x.Dir)
}

// Doubt says whether exports of an earlier process may be wanted that nobody
// publishes: then they stay.
func (s *Server) Doubt(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doubt = on
}

// flushes is how often the kernel is asked to let go of a root, and flushWait the
// time between: what it was asked in one second may wait for the next one.
const (
	flushes   = 5
	flushWait = 1100 * time.Millisecond
)

// released waits until the kernel's tables do not have a root any more.
func (s *Server) released(dir string) error {
	for n := 0; ; n++ {
		text, err := os.ReadFile(filepath.Join(tableExports, "content"))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // there is no server
		}
		if err != nil {
			return fmt.Errorf("asking whether the kernel uses %q: %w", dir, err)
		}
		if !slices.ContainsFunc(parseUses(string(text)), func(u use) bool { return u.path == dir }) {
			return nil
		}
		if n == flushes {
			return fmt.Errorf("the kernel does not let go of %q", dir)
		}
		time.Sleep(flushWait)
		if _, err := exportfs(context.Background(), "-f"); err != nil {
			return err
		}
	}
}

// holdQuiet is how long a client must have been silent for its export to be held:
// no call can still be running then.
const holdQuiet = 30 * time.Second

// Hold makes the calls on an export wait, without an error for the client, until
// release is called. It wraps nfsexport.ErrCalled when the client has called within 30 s.
func (s *Server) Hold(_ context.Context, id nfsexport.ID) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	x := s.exports[id]
	if x == nil || len(x.clients()) == 0 {
		return func() {}, nil // nobody can call
	}
	if !s.seen.looked || s.seen.blind != "" {
		return nil, fmt.Errorf("%w, and nobody knows yet when the board called", nfsexport.ErrCalled)
	}
	if ago := time.Since(time.Unix(0, x.Activity.LastCall.Load())); ago < holdQuiet {
		return nil, fmt.Errorf("%w, and the board called %s ago", nfsexport.ErrCalled, ago.Round(time.Second))
	}
	if err := s.put(id, &export{Export: x.Export, held: true}); err != nil {
		return nil, errors.Join(err, s.unhold(id, x.Export)) // nobody else would
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		now := s.exports[id]
		if now == nil {
			return // withdrawn
		}
		if err := s.unhold(id, now.Export); err != nil {
			s.log.Error("a board's calls wait until its export is mended", "export", now.Name, "err", err)
			return
		}
		if err := answer(id, now.Dir, now.clients(), time.Now()); err != nil {
			s.log.Warn("calls on a root may wait for two minutes more", "export", now.Name, "err", err)
		}
	}, nil
}

// unhold ends a hold. What the host cannot be told now, Run tells it. s.mu is held.
func (s *Server) unhold(id nfsexport.ID, x nfsexport.Export) error {
	free := &export{Export: x}
	err := s.put(id, free)
	s.exports[id] = free // also when the file of exports could not be written
	return err
}

// Clear ends all exports of ours that an earlier process left, for good.
func Clear(ctx context.Context, opt Options) error {
	if _, err := exec.LookPath("exportfs"); err != nil {
		// Nothing can be exported any more.
		if err := os.Remove(cmp.Or(opt.File, File)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	s, err := New(ctx, opt)
	if err != nil {
		return err
	}
	defer s.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.found = nil
	if err := os.Remove(s.opt.File); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var dirs []string
	for l := range s.have {
		dirs = append(dirs, l.path)
	}
	if err := s.bring(ctx, func(line) bool { return true }, nil); err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := s.released(dir); err != nil {
			return err
		}
	}
	return nil
}
