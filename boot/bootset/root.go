package bootset

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"

	"rubus/boot/bootfs"
)

// view is boot files and the modules they go with; it implements View.
type view struct {
	open    func(name string) (*bootfs.File, error)
	config  func() []byte
	modules func() []string
}

func (v view) Open(name string) (File, error) {
	f, err := v.open(name)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (v view) Config() []byte    { return v.config() }
func (v view) Modules() []string { return v.modules() }

// Mounted says where a mounted root of a board is, and what it is made of.
type Mounted struct {
	// Dir is the root; BootDir is where in it the boot files are, "" is boot/firmware.
	Dir, BootDir string
	// Config are lines that the board gets in config.txt.
	Config []string
	// Upper are the board's own writes, Layers the digests below them, the bottom one first.
	Upper    string
	Layers   []string
	LayerDir func(digest string) string
}

// Root is the boot directory of a mounted root; it implements Source. It is for one
// goroutine.
type Root struct {
	own     *bootfs.Own
	modules []string
	reports bool
	m       Mounted
	digests []string // the topmost first
	layers  *layers  // nil: nobody has asked yet
	looked  bool     // modules are known
	trouble bool     // something could not be looked at
}

// OpenRoot opens the boot directory of a root. The error says that there is none, or
// a link in its place.
func OpenRoot(m Mounted) (*Root, error) {
	own, err := bootfs.Tree{Root: m.Dir, BootDir: m.BootDir}.Own()
	if err != nil {
		return nil, err
	}
	if m.BootDir == "" {
		m.BootDir = "boot/firmware"
	}
	digests := slices.Clone(m.Layers)
	slices.Reverse(digests)
	return &Root{own: own, m: m, digests: digests, reports: exists(m.Dir, BootedUnit)}, nil
}

// Close closes the directory.
func (r *Root) Close() {
	r.own.Close()
	if r.layers != nil {
		r.layers.close()
	}
}

// View is the root's own boot files.
func (r *Root) View() View { return own{view{r.Open, r.config, r.modulesThere}, r} }

// own is a View of what the root itself has.
type own struct {
	view
	r *Root
}

// Golden implements golden.
func (o own) Golden() string { return o.r.Golden() }

// config is config.txt as the board gets it.
func (r *Root) config() []byte {
	var text []byte
	if f, err := r.Open("config.txt"); err == nil {
		if f.Size() <= bootfs.MaxConfig {
			text, err = io.ReadAll(f)
		}
		f.Close()
		if err != nil {
			r.trouble, text = true, nil
		}
	}
	text, _ = bootfs.Config(text, r.m.Config)
	return text
}

// modulesThere lists the kernel releases that the root has modules of.
func (r *Root) modulesThere() []string {
	if !r.looked {
		r.modules, r.looked = modulesOf(r.m.Dir), true
	}
	return r.modules
}

// ViewOf is other boot files that the board would have in this root; config gives its config.txt.
func (r *Root) ViewOf(files bootfs.Files, config func() []byte) View {
	return view{files.Open, config, r.modulesThere}
}

// Reports says whether the root has the unit that reports a boot.
func (r *Root) Reports() bool { return r.reports }

// Open implements Source.
func (r *Root) Open(name string) (*bootfs.File, error) {
	f, err := r.own.Look(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, bootfs.ErrRefused) && !errors.Is(err, bootfs.ErrBadName) {
		r.trouble = true
	}
	return f, err
}

// Names implements Source.
func (r *Root) Names() ([]string, error) { return r.own.Names() }

// Layer implements Source.
func (r *Root) Layer(name string, file *bootfs.File) (digest, at string, ok bool) {
	if r.layers == nil {
		r.layers = openLayers(&r.m, r.digests)
	}
	at = path.Join(r.m.BootDir, name)
	if r.layers.written(at) {
		return "", "", false
	}
	digest, ok = r.layers.find(name, file)
	return digest, at, ok
}

// Live opens files of a root's boot directory as they are at each moment.
func Live(root, bootDir string) func(string) (*bootfs.File, error) {
	tree := bootfs.Tree{Root: root, BootDir: bootDir}
	return func(name string) (*bootfs.File, error) {
		own, err := tree.Own()
		if err != nil {
			return nil, err
		}
		defer own.Close()
		return own.Open(name)
	}
}
