package simulatecmd

import (
	"bytes"
	"context"
	"path"
	"slices"

	"rubus/boot/bootset"
	"rubus/boot/fakepi"
)

// saving is what a board could do without.
type saving struct {
	ConfigLine string `json:"config_line"`
	Bytes      int64  `json:"bytes"`
	Blocks     int64  `json:"blocks"`
}

// noInitramfs is the line of config.txt that leaves out the initramfs that
// auto_initramfs=1 asks for.
const noInitramfs = "auto_initramfs=0"

// maxKernelConfig bounds what is read of a kernel's configuration, in bytes.
const maxKernelConfig = 1 << 20

// savings says what the board's boot would be spared without its initramfs, when its
// kernel can mount the root without one and config.txt can say so; else nil. opt are
// those of the boot that came to res.
func (d *dryBoard) savings(ctx context.Context, b fakepi.Board, opt fakepi.Options, res *fakepi.Result) *saving {
	if res.Initramfs.Size == 0 || res.Kernel.Data == nil {
		return nil
	}
	release, err := bootset.Release(inMemory{bytes.NewReader(res.Kernel.Data)})
	if err != nil || release == "" || path.Base(release) != release {
		return nil
	}
	text, err := d.view.ReadFile("boot/config-"+release, maxKernelConfig)
	if err != nil || !bootset.MountsRoot(string(text), b.Model.Name) {
		return nil
	}
	device := *d.device
	device.Config = append(slices.Clone(device.Config), noInitramfs)
	without := *d
	without.device, without.problem = &device, func(string, ...any) {}
	opt.Files, opt.Observe = without.open(b), nil
	bare, err := fakepi.Run(ctx, b, opt)
	if err != nil || bare.Initramfs.Size > 0 || bare.Bytes >= res.Bytes {
		return nil // config.txt names it: that is the board's own
	}
	return &saving{noInitramfs, res.Bytes - bare.Bytes, res.Blocks - bare.Blocks}
}

// inMemory is a file of which all is here; it implements bootset.File.
type inMemory struct{ *bytes.Reader }

func (inMemory) Close() error { return nil }
