package importer

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"rubus/images"
	"rubus/images/importer/directory"
	"rubus/images/importer/layer"
	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// LikeRoot gives the directory dir the attributes that the merged root of the layers in
// dirs, the uppermost first, has: an upper's root hides those of all below.
func LikeRoot(dir string, dirs []string) error {
	is, err := Like(dir, dirs, "")
	if err == nil && !is {
		err = errors.New("the layers have no root")
	}
	return err
}

// Like is LikeRoot for the directory that the layers have at p; false: they have none there.
func Like(dir string, dirs []string, p string) (bool, error) {
	l, err := layer.OpenLower(dirs)
	if err != nil {
		return false, err
	}
	defer l.Close()
	e, err := l.Entry(p)
	if err != nil || e == nil || e.Type != treesum.Dir {
		return false, err
	}
	fd, err := onefs.OpenRoot(dir)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	// Opaque is what the layer's directory is, over those below it.
	delete(e.Xattrs, layer.XattrOpaque)
	return true, layer.SetAttrs(fd, e)
}

// Changed says whether anything was written to an upper that LikeRoot began.
func Changed(upper string, dirs []string) (bool, error) {
	names, err := os.ReadDir(upper)
	if err != nil || len(names) > 0 {
		return err == nil, err
	}
	l, err := layer.OpenLower(dirs)
	if err != nil {
		return false, err
	}
	defer l.Close()
	was, err := l.Entry("")
	if err != nil {
		return false, err
	}
	fd, err := onefs.OpenRoot(upper)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	is, err := layer.EntryAt(fd, "")
	if err != nil {
		return false, err
	}
	return was == nil || is.Mode != was.Mode || is.UID != was.UID || is.GID != was.GID, nil
}

// Seal makes the next version of an image out of an upper of overlayfs, written over the layers
// of Options.Base without redirects and metacopy: what it hides stays hidden. Otherwise it is Import.
func Seal(ctx context.Context, store *images.Store, name, upper, what string, o Options) (v images.Version, rep Report, err error) {
	fd, err := onefs.OpenRoot(upper)
	if err != nil {
		return v, rep, err
	}
	defer unix.Close(fd)
	st, err := newStack(store, name, o, true)
	if err != nil {
		return v, rep, err
	}
	defer st.close(&rep, &err)
	how := directory.Options{Upper: true, Count: o.Progress != nil}
	if err := st.add(ctx, "", func(b *layer.Builder) error { return directory.Copy(b, fd, what, how) }); err != nil {
		return v, rep, fmt.Errorf("sealing what was written: %w", err)
	}
	rep.Format = "edit"
	return st.finish(ctx, images.NewVersion{Name: name, Source: what}, rep)
}

// Step is one layer of a version that is built in steps.
type Step struct {
	// Text says what is done: with the layers below it names what the step makes.
	Text string
	// Again says that it is done although the store has what it made before.
	Again bool
	// Upper writes over layers, the uppermost first, and says where; done removes that. It is not
	// called when the store has what the step makes. Cached, which may be nil, is called then.
	Upper  func(ctx context.Context, dirs []string) (dir string, done func() error, err error)
	Cached func()
}

// BuildSteps makes the next version of an image by steps over Options.Base. What a step made
// stays in the store when a later one fails.
func BuildSteps(ctx context.Context, store *images.Store, name, what string, steps []Step, o Options) (v images.Version, rep Report, err error) {
	st, err := newStack(store, name, o, true)
	if err != nil {
		return v, rep, err
	}
	defer st.close(&rep, &err)
	for i, s := range steps {
		if err := st.step(ctx, s, what); err != nil {
			return v, rep, fmt.Errorf("step %d of %d: %w", i+1, len(steps), err)
		}
	}
	rep.Format = "build"
	return st.finish(ctx, images.NewVersion{Name: name, Source: what}, rep)
}

func (s *stack) step(ctx context.Context, step Step, what string) (err error) {
	chain := s.chain(step.Text)
	if l, ok := s.store.ByChain(chain); ok && !step.Again {
		s.built = append(s.built, images.Built{Digest: l.Digest})
		if step.Cached != nil {
			step.Cached()
		}
		return nil
	}
	dir, done, err := step.Upper(ctx, s.dirs())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	// A step that wrote nothing has no layer.
	if changed, err := Changed(dir, s.dirs()); err != nil || !changed {
		return err
	}
	fd, err := onefs.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := s.add(ctx, chain, func(b *layer.Builder) error { return directory.Copy(b, fd, what, directory.Options{Upper: true}) }); err != nil {
		return err
	}
	last := len(s.built) - 1
	l, err := s.store.Keep(ctx, s.built[last])
	if err != nil {
		return err
	}
	s.built[last] = images.Built{Digest: l.Digest}
	s.kept++
	return nil
}

// chain names a step over the layers so far.
func (s *stack) chain(text string) string {
	h := sha256.New()
	fmt.Fprintf(h, "%q", text)
	if s.o.Base != nil {
		for _, l := range s.o.Base.Layers {
			fmt.Fprintf(h, " %s", l.Digest)
		}
	}
	for _, b := range s.built { // steps keep theirs
		fmt.Fprintf(h, " %s", b.Digest)
	}
	return fmt.Sprintf("build:%x", h.Sum(nil))
}
