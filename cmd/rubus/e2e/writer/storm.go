package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// workers is how many workers a storm has, each in a directory of its own: so
// many calls may be on their way at once.
const workers = 8

func workerDir(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("w%d", i)) }

func journalName(dir string, i int) string { return filepath.Join(dir, fmt.Sprintf("journal.%d", i)) }

// sow makes the workers' directories below dir as they are before a storm.
func sow(dir string) error {
	unix.Umask(0)
	for i := range workers {
		a := &actor{workerDir(dir, i), -1}
		if err := os.MkdirAll(a.dir, 0o755); err != nil {
			return err
		}
		m := newModel()
		for _, o := range seeds() {
			if err := errors.Join(a.do(&o, m), m.apply(&o)); err != nil {
				return fmt.Errorf("%+v: %w", o, err)
			}
		}
	}
	return nil
}

// storm has the workers do at random what programs do to a file system, in
// what sow made below dir. Each keeps a journal in the directory journals. It
// ends when there is a file stop.
func storm(dir, journals, seed, stop string) error {
	n, err := strconv.ParseUint(seed, 10, 64)
	if err != nil {
		return err
	}
	unix.Umask(0)
	if err := os.MkdirAll(journals, 0o755); err != nil {
		return err
	}
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			j, err := newJournal(journalName(journals, i))
			if err != nil {
				errs[i] = err
				return
			}
			w := &worker{
				actor: actor{workerDir(dir, i), -1}, model: newModel(), journal: j,
				rnd: rand.New(rand.NewPCG(n, uint64(i))),
			}
			errs[i] = errors.Join(w.run(stop), j.f.Close())
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// worker is one worker of a storm.
type worker struct {
	actor
	model   *model
	journal *journal
	rnd     *rand.Rand
}

func (w *worker) run(stop string) error {
	for _, o := range seeds() {
		if err := w.model.apply(&o); err != nil {
			return err
		}
	}
	for n := 1; ; n++ {
		if _, err := os.Stat(stop); err == nil {
			if w.model.held == nil {
				return nil
			}
			return w.one(&op{N: n, Do: "release"})
		}
		o := w.pick()
		if o == nil {
			continue
		}
		o.N = n
		if err := w.one(o); err != nil {
			return err
		}
	}
}

// one does an op, with the journal before and after. What fails is for the
// journal's reader to judge; the storm goes on.
func (w *worker) one(o *op) error {
	if err := w.journal.intent(o); err != nil {
		return err
	}
	waited, err := w.patiently(o)
	if o.Do == "release" {
		for _, d := range w.model.heldDirs {
			if !d.stuck {
				w.awaitRemoval(d)
			}
		}
	}
	done := ok
	switch {
	case err == nil:
	case w.isThere(o, w.model, err):
		done = tolerated + err.Error()
	default:
		done = failed + err.Error()
	}
	if at, _ := w.model.parent(o.Path); o.Do == "unlink" && done != ok && w.model.held == w.model.find(o.Path) {
		at.stuck = true
	}
	if happened(o, done) {
		if err := w.model.apply(o); err != nil {
			return err
		}
	}
	return w.journal.done(o, done, waited)
}

// removalLimit is how long a worker waits for awaitRemoval.
const removalLimit = 30 * time.Second

// patiently does an op, and again while all that stands against it is a name of
// the client's for a removed open file, in the directory that goes away. To the
// client a file can be open for a moment after close(2), and a listing made
// before is no promise: the client may give it from what it listed last.
func (w *worker) patiently(o *op) (waited bool, err error) {
	of := w.model.emptied(o)
	if of != nil {
		waited = w.awaitRemoval(of)
	}
	for end := time.Now().Add(removalLimit); ; time.Sleep(10 * time.Millisecond) {
		if err = w.do(o, w.model); err != unix.ENOTEMPTY || of == nil {
			return waited, err
		}
		list, e := os.ReadDir(w.dirOf(of))
		if e != nil || !slices.ContainsFunc(list, leftoverEntry) || time.Now().After(end) {
			return waited, fmt.Errorf("%w: %v", err, list)
		}
		waited = true
	}
}

// awaitRemoval waits until a directory has no name of the client's for a removed
// open file any more, and says whether it had one. The client takes it away some
// time after the close, when its last READ or WRITE is done with.
func (w *worker) awaitRemoval(of *node) (had bool) {
	at := w.dirOf(of)
	for end := time.Now().Add(removalLimit); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		list, err := os.ReadDir(at)
		if err == nil && !slices.ContainsFunc(list, leftoverEntry) {
			break
		}
		had = true
	}
	return had
}

func leftoverEntry(e os.DirEntry) bool { return isLeftover(e.Name()) }

// dirOf is where a directory of the model is.
func (w *worker) dirOf(of *node) string {
	at := w.dir
	w.model.walk(func(p string, n, _ *node) {
		if n == of {
			at = w.path(p)
		}
	})
	return at
}

// happened says whether an op that ended so changed anything.
func happened(o *op, done string) bool {
	return !strings.HasPrefix(done, failed) || o.Do == "release"
}

// Names are few, so that they are used over and over.
const names = "abcdefghijklmnopqrstuvwxyz"

// crowd is how many objects a worker has before it rather removes some.
const crowd = 40

// choice lists what there is, for pick.
type choice struct {
	all, files, dirs, empty, plain []string // plain: no directories
}

// pick chooses the next op; nil when the choice fell on what cannot be done.
func (w *worker) pick() *op {
	c := w.choice()
	r := w.rnd.IntN(100)
	if len(c.all) > crowd {
		r = r % 30
	}
	switch {
	case r < 12:
		return w.on("unlink", c.plain, nil)
	case r < 18:
		return w.on("rmdir", c.empty, func(o *op) bool {
			n := w.model.find(o.Path)
			return !n.stuck && !slices.Contains(w.model.heldDirs, n)
		})
	case r < 36:
		return w.on("rename", c.all, func(o *op) bool { return w.target(o, c) })
	case r < 48:
		return w.fresh("create", c)
	case r < 54:
		return w.fresh("mkdir", c)
	case r < 58:
		o := w.fresh("symlink", c)
		if o != nil {
			o.To, o.Mode = fmt.Sprintf("to/%d", w.rnd.IntN(1e6)), 0
		}
		return o
	case r < 60:
		return w.fresh("fifo", c)
	case r < 66:
		return w.on("link", c.files, func(o *op) bool {
			o.To = w.free(c)
			return o.To != ""
		})
	case r < 78:
		return w.on("write", c.files, func(o *op) bool {
			o.Sync = w.rnd.IntN(2) == 0
			return w.extent(o)
		})
	case r < 82:
		return w.on("truncate", c.files, func(o *op) bool {
			o.Off = w.rnd.Int64N(40 << 10)
			return true
		})
	case r < 86:
		return w.on("chmod", c.all, func(o *op) bool {
			o.Mode = w.mode()
			return w.model.find(o.Path).kind != symlink
		})
	case r < 89:
		return w.on("utimes", c.plain, func(o *op) bool {
			o.Time = w.rnd.Int64N(2e18)
			return true
		})
	case w.model.held == nil:
		return w.on("hold", c.files, nil)
	case r < 96:
		o := &op{Do: "heldwrite"}
		w.extent(o)
		return o
	case r < 98:
		return &op{Do: "heldsync"}
	default:
		return &op{Do: "release"}
	}
}

// choice lists what there is. The order is always the same: a seed is a storm.
func (w *worker) choice() *choice {
	c := &choice{dirs: []string{""}}
	w.model.walk(func(p string, n, _ *node) {
		c.all = append(c.all, p)
		switch {
		case n.kind == dir:
			c.dirs = append(c.dirs, p)
			if len(n.kids) == 0 {
				c.empty = append(c.empty, p)
			}
			return
		case n.kind == file:
			c.files = append(c.files, p)
		}
		c.plain = append(c.plain, p)
	})
	for _, l := range [][]string{c.all, c.files, c.dirs, c.empty, c.plain} {
		slices.Sort(l)
	}
	return c
}

// on makes an op on one of a list, which fits may complete or turn down.
func (w *worker) on(do string, list []string, fits func(*op) bool) *op {
	if len(list) == 0 {
		return nil
	}
	o := &op{Do: do, Path: list[w.rnd.IntN(len(list))]}
	if fits != nil && !fits(o) {
		return nil
	}
	return o
}

// fresh makes an op that makes an object.
func (w *worker) fresh(do string, c *choice) *op {
	p := w.free(c)
	if p == "" {
		return nil
	}
	return &op{Do: do, Path: p, Mode: w.mode()}
}

func (w *worker) mode() uint32 {
	modes := []uint32{0o600, 0o644, 0o666, 0o755, 0o777, 0o700}
	return modes[w.rnd.IntN(len(modes))]
}

// free gives a path at which nothing is, in some directory, or "".
func (w *worker) free(c *choice) string {
	p := c.dirs[w.rnd.IntN(len(c.dirs))]
	if strings.Count(p, "/") > 4 {
		return ""
	}
	p = strings.TrimPrefix(p+"/"+string(names[w.rnd.IntN(len(names))]), "/")
	if w.model.find(p) != nil {
		return ""
	}
	return p
}

// extent chooses where a write goes, and how much of it.
func (w *worker) extent(o *op) bool {
	o.Off, o.Len = w.rnd.Int64N(32<<10), 1+w.rnd.IntN(16<<10)
	return true
}

// target chooses where o.Path is renamed to: a new name, or one in use.
func (w *worker) target(o *op, c *choice) bool {
	n := w.model.find(o.Path)
	if w.rnd.IntN(3) > 0 {
		o.To = w.free(c)
	} else if n.kind == dir && len(c.empty) > 0 {
		o.To = c.empty[w.rnd.IntN(len(c.empty))]
	} else if n.kind != dir && len(c.plain) > 0 {
		o.To = c.plain[w.rnd.IntN(len(c.plain))]
	}
	if o.To == "" || o.To == o.Path || strings.HasPrefix(o.To, o.Path+"/") {
		return false
	}
	over := w.model.find(o.To)
	// The names of one file renamed to each other stay (rename(2)). A client makes
	// two renames of one onto an open file; if the first is done and says that
	// it was not, nobody can tell what there is.
	return over == nil || over != n && over != w.model.held && !over.silly
}
