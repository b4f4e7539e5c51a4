package tarball_test

import (
	"archive/tar"
	"bytes"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"rubus/images/importer/imagetest"
	"rubus/images/importer/layer"
	"rubus/images/importer/source"
	"rubus/images/importer/tarball"
)

func from(b []byte) *source.Source {
	in := bytes.NewReader(b)
	return &source.Source{Name: "test", Format: "tar", Dir: -1, Stream: in, Total: int64(len(b)), Taken: func() int64 { return in.Size() - int64(in.Len()) }}
}

func unpack(t *testing.T, o imagetest.Options, entries ...imagetest.Entry) (imagetest.Layer, error) {
	t.Helper()
	return imagetest.Build(t, o, func(b *layer.Builder) error { return tarball.Copy(b, from(imagetest.Archive(t, entries...))) })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, l imagetest.Layer, entries map[string]string) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(l.Entries)) {
		if entries[p] == "" {
			t.Errorf("%q should not be there", p)
		}
	}
	for p, line := range entries {
		if l.Entries[p] != line {
			t.Errorf("%q is %q, want %q", p, l.Entries[p], line)
		}
	}
}

// Archives that would lead out of their tree, or that make no sense, are
// refused with words, and write nothing elsewhere.
func TestHostile(t *testing.T) {
	outside := t.TempDir()
	rel := strings.Repeat("../", 20) + outside[1:]
	for name, c := range map[string]struct {
		entries []imagetest.Entry
		want    string
	}{
		"absolute":            {[]imagetest.Entry{imagetest.File(outside+"/x", "")}, "is absolute"},
		"climbs":              {[]imagetest.Entry{imagetest.File(rel+"/x", "")}, `climbs out with ".."`},
		"climbs in between":   {[]imagetest.Entry{imagetest.Dir("a"), imagetest.File("a/../../x", "")}, `climbs out with ".."`},
		"climbs as directory": {[]imagetest.Entry{imagetest.Dir("..")}, `climbs out with ".."`},
		"through a link":      {[]imagetest.Entry{imagetest.Symlink("out", outside), imagetest.File("out/x", "")}, `written through the symbolic link "out"`},
		"through two links":   {[]imagetest.Entry{imagetest.Symlink("a", "."), imagetest.Symlink("a/b", outside), imagetest.File("a/b/x", "")}, `written through the symbolic link "a"`},
		"directory over link": {[]imagetest.Entry{imagetest.Symlink("out", outside), imagetest.Dir("out/sub")}, `written through the symbolic link "out"`},
		"through a hard link of a link": {
			[]imagetest.Entry{imagetest.Symlink("l", outside), imagetest.Hardlink("m", "l"), imagetest.File("m/x", "")}, `written through the symbolic link "m"`,
		},
		"hard link to outside":     {[]imagetest.Entry{imagetest.Hardlink("x", "/etc/passwd")}, "hard link to"},
		"hard link climbs":         {[]imagetest.Entry{imagetest.Hardlink("x", rel+"/x")}, "hard link to"},
		"hard link through a link": {[]imagetest.Entry{imagetest.Symlink("out", "/etc"), imagetest.Hardlink("x", "out/passwd")}, "doesn't hold before it"},
		"hard link to nothing":     {[]imagetest.Entry{imagetest.Hardlink("x", "later"), imagetest.File("later", "")}, "doesn't hold before it"},
		"hard link to directory":   {[]imagetest.Entry{imagetest.Dir("d"), imagetest.Hardlink("x", "d")}, `hard link to the directory "d"`},
		"below a file":             {[]imagetest.Entry{imagetest.File("f", ""), imagetest.File("f/x", "")}, `below "f", which is no directory`},
		"file over full directory": {[]imagetest.Entry{imagetest.File("d/x", ""), imagetest.File("d", "")}, "would replace a directory that holds something"},
		"root is a file":           {[]imagetest.Entry{imagetest.File(".", "x")}, "the root of the archive is no directory"},
		"empty link":               {[]imagetest.Entry{imagetest.Symlink("l", "")}, "symbolic link to"},
		"name too long":            {[]imagetest.Entry{imagetest.File(strings.Repeat("n", 256), "")}, "longer than 255 bytes"},
		"path too long":            {[]imagetest.Entry{imagetest.File(strings.Repeat("d/", 2048)+"x", "")}, "longer than 4095 bytes"},
		"nothing in it":            {nil, "the archive holds no files"},
		"owner out of range": {
			[]imagetest.Entry{imagetest.File("x", "").With(func(h *tar.Header) { h.Uid = 1<<32 - 1 })}, "out of range",
		},
		"device out of range": {
			[]imagetest.Entry{{Header: tar.Header{Typeflag: tar.TypeChar, Name: "x", Devmajor: 1 << 20, Format: tar.FormatGNU}}}, "out of range",
		},
		"unknown type": {[]imagetest.Entry{{Header: tar.Header{Typeflag: 'Z', Name: "x"}}}, `type "Z"`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpack(t, imagetest.Options{}, c.entries...)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) != 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
}

// What archives may say twice: the later entry wins, as with tar.
func TestLaterWins(t *testing.T) {
	l, err := unpack(t, imagetest.Options{},
		imagetest.File("etc/file", "old"), imagetest.File("etc/file", "new"),
		imagetest.Symlink("was-link", "/etc"), imagetest.Dir("was-link"), imagetest.File("was-link/in", "x"),
		imagetest.Dir("was-dir"), imagetest.Symlink("was-dir", "etc"),
		imagetest.File("a", "shared"), imagetest.Hardlink("b", "a"), imagetest.File("a", "alone"), imagetest.Hardlink("b", "./b"),
		imagetest.Dir("etc").With(func(h *tar.Header) { h.Mode = 0o700 }),
		imagetest.Dir("./").With(func(h *tar.Header) { h.Mode = 0o711 }),
	)
	must(t, err)
	want(t, l, map[string]string{
		"": "dir 0711 0:0", "etc": "dir 0700 0:0", "etc/file": "file 0644 0:0 3", "was-link": "dir 0755 0:0", "was-link/in": "file 0644 0:0 1",
		"was-dir": "symlink 0777 0:0 to etc", "a": "file 0644 0:0 5", "b": "file 0644 0:0 6",
	})
	// Only what is left counts.
	if l.Bytes != int64(len("new"+"x"+"alone"+"shared")) {
		t.Errorf("size %d", l.Bytes)
	}
	if b, err := os.ReadFile(l.Dir + "/etc/file"); err != nil || string(b) != "new" {
		t.Errorf("etc/file holds %q, %v", b, err)
	}
}

// A device node that is left out takes its other names with it.
func TestDroppedDevices(t *testing.T) {
	device := imagetest.Entry{Header: tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda", Mode: 0o660, Devmajor: 8}}
	entries := []imagetest.Entry{device, imagetest.Hardlink("disk", "dev/sda"), imagetest.Hardlink("again", "disk"), imagetest.File("x", "")}
	l, err := unpack(t, imagetest.Options{Devices: layer.DevicesDrop}, entries...)
	must(t, err)
	want(t, l, map[string]string{"": "dir 0755 0:0", "dev": "dir 0755 0:0", "x": "file 0644 0:0 0"})
	l, err = unpack(t, imagetest.Options{}, entries...)
	must(t, err)
	// The first name in the order of names is the one that the others link to.
	want(t, l, map[string]string{
		"": "dir 0755 0:0", "dev": "dir 0755 0:0", "x": "file 0644 0:0 0",
		"again": "block 0660 0:0 8,0", "dev/sda": "hardlink to again", "disk": "hardlink to again",
	})
}

// What a layer of a container image hides of the layer below, in either order of its entries.
func TestWhiteouts(t *testing.T) {
	file, dir := imagetest.File, imagetest.Dir
	const plain, gone = "dir 0755 0:0", "char 0644 0:0 0,0"
	for name, c := range map[string]struct {
		entries []imagetest.Entry
		want    map[string]string
		err     string
	}{
		"a file":                  {[]imagetest.Entry{file("etc/.wh.file", "")}, map[string]string{"etc": plain, "etc/file": gone}, ""},
		"a directory":             {[]imagetest.Entry{file(".wh.etc", "")}, map[string]string{"etc": gone}, ""},
		"what isn't there":        {[]imagetest.Entry{file("etc/.wh.none", ""), file("x", "")}, map[string]string{"x": "file 0644 0:0 0"}, ""},
		"in what is hidden":       {[]imagetest.Entry{file(".wh.etc", ""), file("etc/.wh.file", "")}, map[string]string{"etc": gone}, ""},
		"all in what is hidden":   {[]imagetest.Entry{file("etc/sub/.wh..wh..opq", ""), file(".wh.etc", "")}, map[string]string{"etc": gone}, ""},
		"in what is made anew":    {[]imagetest.Entry{file(".wh.etc", ""), file("etc/.wh.file", ""), file("etc/new", "")}, map[string]string{"etc": plain + " opaque", "etc/new": "file 0644 0:0 0"}, ""},
		"what it has itself":      {[]imagetest.Entry{file("etc/file", "1"), file("etc/.wh.file", "")}, map[string]string{"etc": plain, "etc/file": "file 0644 0:0 1"}, ""},
		"a directory it has":      {[]imagetest.Entry{file(".wh.etc", ""), dir("etc")}, map[string]string{"etc": plain + " opaque"}, ""},
		"all of a directory":      {[]imagetest.Entry{dir("etc"), file("etc/.wh..wh..opq", ""), file("etc/new", "")}, map[string]string{"etc": plain + " opaque", "etc/new": "file 0644 0:0 0"}, ""},
		"all of one it hasn't":    {[]imagetest.Entry{file("etc/.wh..wh..opq", "")}, map[string]string{"etc": plain + " opaque"}, ""},
		"aufs' notes":             {[]imagetest.Entry{dir(".wh..wh.plnk"), file("x", "")}, map[string]string{"x": "file 0644 0:0 0"}, ""},
		"through a link below":    {[]imagetest.Entry{file("link/.wh.file", "")}, map[string]string{"etc": plain, "etc/file": gone}, ""},
		"a file through the link": {[]imagetest.Entry{file("/link/new", "")}, map[string]string{"etc": plain, "etc/new": "file 0644 0:0 0"}, ""},
		"everything":              {[]imagetest.Entry{file(".wh..wh..opq", "")}, nil, "squash the image"},
		"nothing":                 {nil, map[string]string{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			below, err := unpack(t, imagetest.Options{}, dir("etc"), file("etc/file", "x"), imagetest.Symlink("link", "etc"))
			must(t, err)
			l, err := imagetest.Build(t, imagetest.Options{Below: []string{below.Dir}}, func(b *layer.Builder) error {
				return tarball.CopyLayer(b, from(imagetest.Archive(t, c.entries...)))
			})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %q", err, c.err)
				}
				return
			}
			must(t, err)
			c.want[""] = plain
			want(t, l, c.want)
		})
	}
	// On nothing there is nothing to hide.
	l, err := imagetest.Build(t, imagetest.Options{}, func(b *layer.Builder) error {
		return tarball.CopyLayer(b, from(imagetest.Archive(t, file(".wh.etc", ""), file("x", ""))))
	})
	must(t, err)
	want(t, l, map[string]string{"": plain, "x": "file 0644 0:0 0"})
}

// An archive ends with its mark; what follows is read, for whoever writes to a pipe, but not without end.
func TestEnd(t *testing.T) {
	whole := imagetest.Archive(t, imagetest.File("x", "x"))
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"whole":              {whole, ""},
		"half of the mark":   {whole[:len(whole)-512], ""},
		"without the mark":   {whole[:len(whole)-1024], "the archive has no end mark"},
		"in an entry":        {whole[:512], "it ends in the middle, 512 bytes into the archive"},
		"in a header":        {whole[:100], "it ends in the middle"},
		"no archive":         {bytes.Repeat([]byte("text"), 1024), "the archive is corrupt"},
		"filled up":          {append(bytes.Clone(whole), make([]byte, 10<<10)...), ""},
		"with a whole disk":  {append(bytes.Clone(whole), make([]byte, 64<<20)...), "more than 64 MiB follow"},
		"an archive of none": {imagetest.Archive(t), "the archive holds no files"},
	} {
		t.Run(name, func(t *testing.T) {
			src := from(c.archive)
			_, err := imagetest.Build(t, imagetest.Options{}, func(b *layer.Builder) error { return tarball.Copy(b, src) })
			switch {
			case c.want == "" && err != nil, c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("%v, want %q", err, c.want)
			case err == nil && src.Taken() != src.Total:
				t.Errorf("%d of %d bytes were read", src.Taken(), src.Total)
			}
		})
	}
}
