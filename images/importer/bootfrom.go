package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"rubus/images"
	"rubus/images/importer/layer"
	"rubus/images/treesum"
)

// BootFrom puts the boot files of another root on top, with its kernel modules: dirs are
// its layers, the uppermost first, or one directory, which may also hold the boot files themselves.
func (t *Top) BootFrom(ctx context.Context, dirs []string) error {
	l, err := layer.OpenLower(dirs)
	if err != nil {
		return err
	}
	defer l.Close()
	c := &bootCopy{ctx: ctx, top: t, from: l, view: images.Merged(dirs)}
	from := ""
	for _, dir := range []string{images.BootFirmware, images.BootPlain, "."} {
		list, _ := fs.ReadDir(c.view, dir) // what isn't there has none
		for _, f := range list {
			if from == "" && isBootFile(f.Name()) {
				from = dir
			}
		}
	}
	if from == "" {
		return errors.New("there are no boot files (start4.elf, config.txt, kernel8.img) to take from there")
	}
	if err := c.tree(from, images.BootFirmware); err != nil || from == "." {
		return err
	}
	for _, dir := range []string{"usr/lib/modules", "lib/modules"} {
		if e, err := l.Entry(dir); err != nil {
			return err
		} else if e != nil && e.Type == treesum.Dir {
			return c.tree(dir, "lib/modules") // through the link, where lib is one
		}
	}
	return nil
}

// bootCopy copies trees from one stack of layers to the top of another.
type bootCopy struct {
	ctx  context.Context //nolint:containedctx // lives as long as one call
	top  *Top
	from layer.Lower
	view fs.FS
}

func (c *bootCopy) tree(from, to string) error {
	list, err := fs.ReadDir(c.view, from)
	if err != nil {
		return err
	}
	e, err := c.from.Entry(from)
	if err != nil || e == nil {
		return errors.Join(err, fmt.Errorf("%q is not there", from))
	}
	delete(e.Xattrs, layer.XattrOpaque)
	if err := c.top.Dir(to, e); err != nil {
		return err
	}
	for _, f := range list {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		at, target := path.Join(from, f.Name()), path.Join(to, f.Name())
		e, err := c.from.Entry(at)
		switch {
		case err != nil:
			return err
		case e == nil || e.Type == treesum.Socket:
		case e.Type == treesum.Dir:
			err = c.tree(at, target)
		case e.Type == treesum.File:
			err = c.file(at, target, e)
		default:
			err = c.top.Put(target, e, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *bootCopy) file(from, to string, e *treesum.Entry) error {
	f, err := c.view.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	r, ok := f.(*os.File)
	if !ok {
		return fmt.Errorf("%q can't be read anywhere", from)
	}
	return c.top.Put(to, e, sized{r, e.Size})
}

// sized is content without holes.
type sized struct {
	io.ReaderAt
	size int64
}

// Size is the length in bytes.
func (s sized) Size() int64 { return s.size }

// NextData is off.
func (s sized) NextData(off int64) int64 { return min(off, s.size) }
