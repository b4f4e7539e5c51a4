package simulatecmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"rubus/boot"
	"rubus/boot/bootfs"
	"rubus/boot/fakepi"
	"rubus/boot/writes"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
	"rubus/config"
	"rubus/config/device"
	"rubus/images"
	"rubus/images/imageref"
	"rubus/images/layered"
)

// maxBootFile bounds a boot file of a dry run, in bytes.
const maxBootFile = 512 << 20

// dryServer stands for the address that a board will ask: it is known only then.
const dryServer = "192.0.2.1"

// dryReport is what a board would get, for --json.
type dryReport struct {
	OK       bool     `json:"ok"`
	Verdict  string   `json:"verdict"`
	Model    string   `json:"model"`
	Serial   string   `json:"serial"`
	EEPROM   string   `json:"eeprom,omitempty"`
	Image    string   `json:"image,omitempty"`
	Own      bool     `json:"own_files"`
	Prefix   string   `json:"prefix,omitempty"`
	Problems []string `json:"problems,omitempty"`

	Kernel    *fileReport   `json:"kernel,omitempty"`
	Initramfs *fileReport   `json:"initramfs,omitempty"`
	DTB       *fileReport   `json:"device_tree,omitempty"`
	Overlays  []*fileReport `json:"overlays,omitempty"`
	Config    []string      `json:"config_lines,omitempty"`
	Cmdline   string        `json:"cmdline,omitempty"`

	Files  int            `json:"files"`
	Bytes  int64          `json:"bytes"`
	Blocks int64          `json:"blocks"`
	Saving *saving        `json:"saving,omitempty"`
	Events []fakepi.Event `json:"events,omitempty"`
}

// dryBoard is what the server would serve a board from.
type dryBoard struct {
	device  *config.Device
	image   imageref.Ref
	boot    string // the boot directory below the root
	view    *layered.View
	own     bool // the board's writes are part of it
	export  string
	port    uint16 // of NFS; 0: the usual one
	problem func(format string, a ...any)
}

// dryRun says what a board would get, from files alone.
func dryRun(ctx context.Context, g *cli.Globals, f simulateFlags, b fakepi.Board) error {
	r := &dryReport{Model: b.Model.Name, Serial: b.Serial.String(), Events: []fakepi.Event{}}
	if !b.EEPROM.IsZero() {
		r.EEPROM = b.EEPROM.Format("2006-01-02")
	}
	d, err := openDry(g, f, b)
	if err != nil {
		return err
	}
	defer d.view.Close()
	seen := map[string]bool{}
	d.problem = func(format string, a ...any) {
		if text := fmt.Sprintf(format, a...); !seen[text] {
			seen[text] = true
			r.Problems = append(r.Problems, text)
		}
	}
	r.Image, r.Own, r.Config = d.image.String(), d.own, d.device.Config
	if !d.device.Enabled {
		d.problem("the device is disabled: the server gives it nothing")
	}
	opt := f.options(nil, b)
	opt.Files = d.open(b)
	opt.Observe = func(e fakepi.Event) {
		if e.Kind == fakepi.KindNote {
			d.problem("%s", e.Text)
		}
		if e.Outcome == fakepi.Missing && e.Kind == fakepi.KindRead {
			d.problem("there is no %s", e.File)
		}
	}
	res, err := fakepi.Run(ctx, b, opt)
	r.take(res, err)
	if err == nil {
		r.Saving = d.savings(ctx, b, opt, res)
	}
	return r.finish(g, b, err)
}

func (r *dryReport) take(res *fakepi.Result, err error) {
	r.OK, r.Verdict = err == nil && len(r.Problems) == 0, "the board has all that it needs to boot"
	switch {
	case err != nil:
		r.Verdict = err.Error()
	case len(r.Problems) > 0:
		r.OK, r.Verdict = true, "the board would boot, but see the problems"
	}
	r.Prefix, r.Cmdline = res.Prefix, res.Cmdline
	r.Kernel, r.Initramfs, r.DTB = summary(res.Kernel), summary(res.Initramfs), summary(res.DTB)
	for _, o := range res.Overlays {
		r.Overlays = append(r.Overlays, summary(o))
	}
	r.Files, r.Bytes, r.Blocks, r.Events = res.Files, res.Bytes, res.Blocks, res.Events
}

func (r *dryReport) finish(g *cli.Globals, b fakepi.Board, err error) error {
	if g.JSON {
		return errors.Join(g.PrintJSON(r), err)
	}
	w := g.Stdout
	fmt.Fprintf(w, "%s, serial %s", b.Model.Title, b.Serial)
	if r.EEPROM != "" {
		fmt.Fprintf(w, ", bootloader of %s", r.EEPROM)
	}
	whose := "as it was imported"
	if r.Own {
		whose = "with what the board wrote"
	}
	fmt.Fprintf(w, "\n%-11s %s, %s\n", "image", r.Image, whose)
	show := func(what string, f *fileReport) {
		if f != nil {
			fmt.Fprintf(w, "%-11s %s, %s bytes\n", what, f.Name, thousands(f.Size))
		}
	}
	show("kernel", r.Kernel)
	show("initramfs", r.Initramfs)
	show("device tree", r.DTB)
	for _, o := range r.Overlays {
		show("overlay", o)
	}
	for _, line := range r.Config {
		fmt.Fprintf(w, "%-11s %s\n", "config.txt", line)
	}
	if r.Cmdline != "" {
		fmt.Fprintf(w, "%-11s %s\n", "cmdline", strings.ReplaceAll(r.Cmdline, dryServer, "SERVER"))
	}
	fmt.Fprintf(w, "%-11s %d files, %s bytes, %s round trips\n", "TFTP", r.Files, thousands(r.Bytes), thousands(r.Blocks))
	if s := r.Saving; s != nil {
		fmt.Fprintf(w, "%-11s config: [%q]: this kernel needs no initramfs;\n%-11s %s bytes and %s round trips less\n", "could do",
			s.ConfigLine, "", thousands(s.Bytes), thousands(s.Blocks))
	}
	for _, p := range r.Problems {
		fmt.Fprintf(w, "%-11s %s\n", "problem", p)
	}
	if err == nil {
		fmt.Fprintln(w, "ok: "+r.Verdict)
	}
	return err
}

// openDry finds what a board would boot from: its own root when it has written
// to it, else the image.
func openDry(g *cli.Globals, f simulateFlags, b fakepi.Board) (*dryBoard, error) {
	d := &dryBoard{}
	store, err := g.ImageStore()
	if err != nil {
		return nil, err
	}
	state, err := g.StateDir()
	if err != nil {
		return nil, err
	}
	if f.image != "" {
		d.device = &config.Device{Serial: b.Serial, Enabled: true}
		return d, d.fromImage(store, f.image, b.Serial)
	}
	conf, err := g.LoadConfig()
	if err != nil {
		return nil, err
	}
	d.port = conf.Daemon().NFS.Port
	if d.device = conf.BySerial(b.Serial); d.device == nil {
		if u := conf.Unknown(); u.Policy == config.UnknownBoot {
			d.device = u.Device
		} else {
			return nil, ui.Hint(fmt.Errorf("%s has no device with serial %s: the board gets nothing", g.DevicesFile, b.Serial),
				"\"rubus device add\" adds it, or try an image: --image")
		}
	}
	if d.device.Overlay != config.Ephemeral {
		if done, err := d.fromWrites(state, store, b.Serial); err != nil || done {
			return d, err
		}
	}
	return d, d.fromImage(store, d.device.Image.String(), b.Serial)
}

func (d *dryBoard) fromImage(store *images.Store, name string, serial device.Serial) error {
	v, err := cli.ResolveImage(store, name)
	if err != nil {
		return err
	}
	var dirs []string
	for _, l := range v.Layers {
		dirs = append(dirs, store.LayerDir(l.Digest))
	}
	d.image, d.boot, d.export = v.Ref, v.Boot, "/"+serial.String()+"/N"
	d.view, err = layered.Open(dirs)
	return err
}

// fromWrites takes the root that a persistent board wrote to, if it has one.
func (d *dryBoard) fromWrites(state string, store *images.Store, serial device.Serial) (bool, error) {
	places, err := writes.Places(state, store, serial)
	if errors.Is(err, boot.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, p := range places {
		if p.Ephemeral {
			continue
		}
		empty, err := p.IsEmpty()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if empty || err != nil {
			continue
		}
		d.image, d.boot, d.own, d.export = p.Image, p.Boot, true, fmt.Sprintf("/%s/%d", serial, p.N)
		d.view, err = layered.OpenUpper(p.Layers, p.UpperDir)
		return true, err
	}
	return false, nil
}

// open opens files by the names that the board sends, as the server does.
func (d *dryBoard) open(b fakepi.Board) func(string) ([]byte, error) {
	params := bootfs.CmdlineParams{Server: netip.MustParseAddr(dryServer), Path: d.export, Port: d.port, Extra: d.device.Cmdline}
	own := func(name string) ([]byte, error) {
		clean, err := bootfs.Clean(name)
		if err != nil {
			return nil, fs.ErrNotExist
		}
		return d.read(clean)
	}
	return func(name string) ([]byte, error) {
		if rest, ok := strings.CutPrefix(name, b.Serial.String()+"/"); ok {
			name = rest
		}
		ownConfig, err := own("config.txt")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		text, warnings := bootfs.Config(ownConfig, d.device.Config)
		if strings.EqualFold(name, "config.txt") {
			for _, w := range warnings {
				d.problem("config.txt: %s", w)
			}
			return text, nil
		}
		for _, n := range bootfs.CmdlineNames(text, own) {
			if !strings.EqualFold(n, name) {
				continue
			}
			words, err := own(name)
			if err != nil {
				d.problem("the image has no %s of its own", name)
			}
			line, warnings, err := bootfs.Cmdline(words, params)
			for _, w := range warnings {
				d.problem("%s: %s", name, w)
			}
			return []byte(line + "\n"), err
		}
		return own(name)
	}
}

// read reads a file of the boot directory. As the server does it follows links
// that end there.
func (d *dryBoard) read(name string) ([]byte, error) {
	const maxLinks = 8
	for range maxLinks {
		n, err := d.view.Lookup(path.Join(d.boot, name))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fs.ErrNotExist
		}
		if err != nil {
			return nil, err
		}
		if n.Stat.Mode&unix.S_IFMT != unix.S_IFLNK {
			return d.view.ReadFile(n.Path, maxBootFile)
		}
		to, err := d.view.Readlink(n)
		if err != nil {
			return nil, err
		}
		if name = path.Join(path.Dir(name), to); path.IsAbs(to) || !filepath.IsLocal(name) {
			d.problem("%s is a link out of the boot directory: it is not served", n.Path)
			return nil, fs.ErrNotExist
		}
	}
	return nil, fmt.Errorf("%q: too many links", name)
}
