package oci

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sys/unix"

	"rubus/images/internal/onefs"
	"rubus/images/treesum"
)

// packed is a layer as a registry takes it. It lies in a file without a name,
// which is gone with the process. It implements v1.Layer.
type packed struct {
	file           *os.File
	size           int64
	digest, diffID string
}

// pack makes a tarball of a layer's tree, in the order of names.
func pack(ctx context.Context, tree, tmp string, progress func(int64)) (*packed, error) {
	fd, err := unix.Open(tmp, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("making a temporary file in %q: %w", tmp, err)
	}
	p := &packed{file: os.NewFile(uintptr(fd), filepath.Join(tmp, "packed"))}
	if err := p.write(ctx, tree, progress); err != nil {
		p.file.Close()
		return nil, err
	}
	return p, nil
}

func (p *packed) write(ctx context.Context, tree string, progress func(int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	root, err := onefs.OpenRoot(tree)
	if err != nil {
		return err
	}
	defer unix.Close(root)
	small, plain := sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(p.file, small), gzip.DefaultCompression)
	if err != nil {
		return err
	}
	w := &writer{ctx: ctx, root: root, tar: tar.NewWriter(io.MultiWriter(z, plain)), names: make(map[uint64]string), progress: progress}
	err = errors.Join(w.dir(""), w.tar.Close(), z.Close())
	if err != nil {
		return err
	}
	p.size, err = p.file.Seek(0, io.SeekCurrent)
	p.digest, p.diffID = text(small), text(plain)
	return err
}

func text(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// writer writes one tree.
type writer struct {
	ctx      context.Context //nolint:containedctx // lives as long as one call
	root     int
	tar      *tar.Writer
	names    map[uint64]string // of inodes with several
	progress func(int64)
}

func (w *writer) dir(p string) error {
	fd, err := onefs.OpenDir(w.root, p)
	if err != nil {
		return packing(p, err)
	}
	defer unix.Close(fd)
	st, err := onefs.Fstat(fd)
	if err != nil {
		return packing(p, err)
	}
	xattrs, err := onefs.Xattrs(fd, treesum.Counted)
	if err != nil {
		return packing(p, err)
	}
	const opaque = "trusted.overlay.opaque"
	hides := xattrs[opaque] == "y"
	delete(xattrs, opaque)
	if err := w.header(p+"/", &st, tar.TypeDir, "", xattrs); err != nil {
		return packing(p, err)
	}
	if hides {
		h := tar.Header{Typeflag: tar.TypeReg, Name: path.Join(p, ".wh..wh..opq"), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if err := w.tar.WriteHeader(&h); err != nil {
			return packing(p, err)
		}
	}
	names, err := onefs.List(fd)
	if err != nil {
		return packing(p, err)
	}
	slices.SortFunc(names, func(a, b onefs.Dirent) int { return strings.Compare(a.Name, b.Name) })
	for _, d := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := w.name(fd, d.Name, path.Join(p, d.Name)); err != nil {
			return err
		}
	}
	return nil
}

func packing(p string, err error) error { return fmt.Errorf("packing %q: %w", "/"+p, err) }

func (w *writer) name(dirfd int, name, p string) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dirfd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return packing(p, err)
	}
	kind := st.Mode & unix.S_IFMT
	if kind == unix.S_IFDIR {
		return w.dir(p)
	}
	if strings.HasPrefix(name, ".wh.") {
		return fmt.Errorf("packing %q: in an OCI image this name would hide another", "/"+p)
	}
	if kind == unix.S_IFCHR && st.Rdev == 0 {
		st.Size = 0
		return w.header(path.Join(path.Dir(p), ".wh."+name), &st, tar.TypeReg, "", nil)
	}
	if kind != unix.S_IFSOCK && st.Nlink > 1 {
		if first, again := w.names[st.Ino]; again {
			h := tar.Header{Typeflag: tar.TypeLink, Name: p, Linkname: first, Format: tar.FormatPAX, ModTime: time.Unix(st.Mtim.Unix())}
			return w.tar.WriteHeader(&h)
		}
		w.names[st.Ino] = p
	}
	if kind == unix.S_IFREG {
		return w.file(dirfd, name, p)
	}
	xattrs, err := onefs.XattrsAt(dirfd, name, treesum.Counted)
	if err != nil {
		return packing(p, err)
	}
	flag, target := byte(tar.TypeFifo), ""
	switch kind {
	case unix.S_IFLNK:
		fd, err := onefs.OpenAt(dirfd, name, unix.O_PATH, 0)
		if err != nil {
			return packing(p, err)
		}
		target, err = onefs.Readlink(fd)
		unix.Close(fd)
		if err != nil {
			return packing(p, err)
		}
		flag = tar.TypeSymlink
	case unix.S_IFCHR:
		flag = tar.TypeChar
	case unix.S_IFBLK:
		flag = tar.TypeBlock
	case unix.S_IFSOCK:
		return nil // its server makes it anew
	}
	if err := w.header(p, &st, flag, target, xattrs); err != nil {
		return packing(p, err)
	}
	return nil
}

func (w *writer) file(dirfd int, name, p string) error {
	fd, err := onefs.OpenAt(dirfd, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOATIME, 0)
	if err != nil {
		return packing(p, err)
	}
	f := os.NewFile(uintptr(fd), p)
	defer f.Close()
	st, err := onefs.Fstat(fd)
	if err != nil {
		return packing(p, err)
	}
	xattrs, err := onefs.Xattrs(fd, treesum.Counted)
	if err == nil {
		err = w.header(p, &st, tar.TypeReg, "", xattrs)
	}
	if err == nil {
		var n int64
		n, err = io.Copy(w.tar, io.LimitReader(f, st.Size))
		w.progress(n)
	}
	if err != nil {
		return packing(p, err)
	}
	return nil
}

func (w *writer) header(p string, st *unix.Stat_t, flag byte, target string, xattrs map[string]string) error {
	if p == "/" {
		p = "./"
	}
	h := tar.Header{
		Typeflag: flag, Name: p, Linkname: target, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()), Format: tar.FormatPAX,
	}
	switch flag {
	case tar.TypeReg:
		h.Size = st.Size
	case tar.TypeChar, tar.TypeBlock:
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	}
	for name, value := range xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = make(map[string]string)
		}
		h.PAXRecords["SCHILY.xattr."+name] = value
	}
	return w.tar.WriteHeader(&h)
}

// Digest implements v1.Layer.
func (p *packed) Digest() (v1.Hash, error) { return v1.Hash{Algorithm: "sha256", Hex: p.digest}, nil }

// DiffID implements v1.Layer.
func (p *packed) DiffID() (v1.Hash, error) { return v1.Hash{Algorithm: "sha256", Hex: p.diffID}, nil }

// Compressed implements v1.Layer.
func (p *packed) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(p.file, 0, p.size)), nil
}

// Uncompressed implements v1.Layer.
func (p *packed) Uncompressed() (io.ReadCloser, error) {
	return gzip.NewReader(io.NewSectionReader(p.file, 0, p.size))
}

// Size implements v1.Layer.
func (p *packed) Size() (int64, error) { return p.size, nil }

// MediaType implements v1.Layer.
func (p *packed) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
