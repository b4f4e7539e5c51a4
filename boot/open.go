package boot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"rubus/boot/bootfs"
	"rubus/boot/phase"
	"rubus/config/device"
)

// FileRequest is a file asked for over TFTP.
type FileRequest struct {
	// Path is the name as the board sent it.
	Path string
	// Client is who asks, Server the address it asked at: the one that the
	// generated cmdline.txt names.
	Client, Server netip.Addr
}

// IsBoard says whether an address is that of a board, known or only seen:
// nobody else gets any answer over TFTP. It may wait for the neighbour table.
func (f *Fleet) IsBoard(ctx context.Context, addr netip.Addr) bool {
	addr = addr.Unmap()
	if !f.opt.Neighbours.OnLink(addr) {
		return !f.serialAt(addr).IsZero()
	}
	mac, ok := f.opt.Neighbours.Owner(ctx, addr)
	if !ok {
		return false
	}
	f.mu.Lock()
	seen := f.unknown.Has(mac)
	f.mu.Unlock()
	return seen || !f.serialOf(mac).IsZero() || f.opt.TrustFirst
}

// Open opens a file for a board. A name below a serial or a MAC is answered to
// that board only; a bare one, as a boot ROM sends, to whichever board has the
// address. The first file of a boot prepares the board's root. The error wraps
// ErrRefused, ErrNotFound or fs.ErrNotExist where the board is told "not found".
func (f *Fleet) Open(ctx context.Context, r FileRequest) (*bootfs.File, error) {
	addr := r.Client.Unmap()
	serial, prefix, name := bootfs.SplitPrefix(r.Path, f.opt.Prefixes)
	switch {
	case !prefix.IsZero():
		serial = f.serialOf(prefix)
	case serial.IsZero():
		serial = f.ownerOf(ctx, addr)
	}
	dev := f.wanted(serial)
	if serial.IsZero() || dev == nil || !dev.Enabled {
		return nil, fmt.Errorf("%q for %s: no enabled device of devices.yaml: %w", r.Path, addr, ErrNotFound)
	}
	if f.isFull(serial) {
		return nil, fmt.Errorf("board %s: too many unknown boards: %w", serial, ErrRefused)
	}
	b := f.known(serial)
	if b == nil {
		// Kept only once it is known that the board itself asks.
		b = f.newBoard(serial)
	}
	mac, err := f.identify(ctx, b, addr)
	if err != nil {
		f.fileRefused(b, mac, r, err)
		return nil, err
	}
	b = f.board(serial)
	f.noteFile(b, mac)
	slot, c, err := f.prepare(ctx, b, dev, name)
	if err != nil {
		if ctx.Err() == nil { // else the board asked anew or went away: nothing is wrong
			f.log.Error("a board's root cannot be prepared", "serial", serial, "err", err)
		}
		return nil, err
	}
	if c.Err != nil {
		return nil, fmt.Errorf("%q of board %s: %w: %w", name, serial, c.Err, ErrNotFound)
	}
	if err := f.await(ctx, b, slot.N, mac, addr); err != nil {
		f.fileRefused(b, mac, r, err)
		return nil, err
	}
	tree := bootfs.Tree{
		Root: f.spec(serial, slot).Target, BootDir: slot.Boot, ConfigLines: dev.Config,
		Cmdline: bootfs.CmdlineParams{
			Server: r.Server.Unmap(), Path: f.path(serial, slot.N), Port: f.opt.NFSPort, Boot: c.ID, Extra: dev.Cmdline,
		},
		Warn: func(file, problem string) {
			if !b.hasTold(f.opt.Now(), "boot file "+file) {
				f.log.Warn("a board's own boot file was not used as it is", "serial", serial, "file", file, "problem", problem)
			}
		},
	}
	if c.Files != nil { // else the nil would be no nil any more
		tree.Files = c.Files
	}
	pi5Start := isOldStart(name) && b.isPi5()
	if pi5Start && f.opt.Pi5Start == StartHide {
		return nil, fmt.Errorf("%q of board %s, a Pi 5: %w", name, serial, ErrNotFound)
	}
	file, err := tree.Open(name)
	switch {
	case err == nil:
	case pi5Start && f.opt.Pi5Start == StartAdd && errors.Is(err, fs.ErrNotExist):
		// Firmware takes a file without bytes for a missing one.
		return bootfs.FileOf([]byte("\n")), nil
	case errors.Is(err, bootfs.ErrRefused), errors.Is(err, bootfs.ErrBadName):
		f.fileRefused(b, mac, r, err)
		return nil, fmt.Errorf("%w: %w", ErrRefused, err)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%q of board %s: %w", name, serial, ErrNotFound)
	}
	return file, err
}

// fileRefused tells of a refused file, once for each reason and board, whatever
// the file's name.
func (f *Fleet) fileRefused(b *board, mac device.MAC, r FileRequest, err error) {
	why := fmt.Sprintf("file asked for by %s: %v", r.Client.Unmap(), err)
	kind := err.Error()
	for _, e := range []error{bootfs.ErrRefused, bootfs.ErrBadName} {
		if errors.Is(err, e) {
			kind = e.Error()
		}
	}
	if !b.refuse(f.opt.Now(), "file for "+r.Client.Unmap().String()+": "+kind, why) {
		f.log.Warn("a file is refused", "serial", b.serial, "address", r.Client.Unmap(), "file", r.Path, "why", err)
	}
	f.observe(b.serial, mac, "refused", "file "+r.Path)
}

// noteFile marks the board as fetching; a file after a long silence begins a
// new boot, for boards whose DHCP is not heard.
func (f *Fleet) noteFile(b *board, mac device.MAC) {
	now := f.opt.Now()
	b.mu.Lock()
	if b.ev.Attempt.IsZero() || now.Sub(phase.Later(b.ev.DHCP, b.ev.TFTP)) > f.opt.Limits.Boot {
		b.ev.Attempt, b.pinned = now, 0
	}
	first := b.ev.TFTP.Before(b.ev.Attempt)
	b.ev.TFTP = now
	if b.claim.IsZero() {
		b.claim = mac
	}
	b.mu.Unlock()
	if first {
		f.observe(b.serial, mac, "tftp", "")
	}
}

// ownerOf is the board that has an address; zero: none.
func (f *Fleet) ownerOf(ctx context.Context, addr netip.Addr) device.Serial {
	if !f.opt.Neighbours.OnLink(addr) {
		return f.serialAt(addr)
	}
	mac, ok := f.opt.Neighbours.Owner(ctx, addr)
	if !ok {
		return device.Serial{}
	}
	return f.serialOf(mac)
}

// serialAt is the device that devices.yaml gives an address; zero: none.
func (f *Fleet) serialAt(addr netip.Addr) device.Serial {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.desired != nil {
		for s, d := range f.desired.Devices {
			if d.Address == addr {
				return s
			}
		}
	}
	return device.Serial{}
}

// Pi5Start is what a Pi 5 gets for start.elf and start4.elf, which it does not
// run: nobody has seen whether it looks for them.
type Pi5Start string

// What a Pi 5 gets; "" is StartOwn.
const (
	// StartOwn: what the board's boot directory has.
	StartOwn Pi5Start = "own"
	// StartHide: never the file.
	StartHide Pi5Start = "hide"
	// StartAdd: a file of one byte where the directory has none.
	StartAdd Pi5Start = "add"
)

// isOldStart says that a name is that of firmware for boards before the 5.
func isOldStart(name string) bool { return name == "start.elf" || name == "start4.elf" }
