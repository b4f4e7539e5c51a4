package rebase

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"
)

// CacheOf is a cache as ldconfig writes it.
func CacheOf(paths ...string) []byte {
	b := append([]byte("glibc-ld.so.cache1.1"), make([]byte, 28+24*len(paths))...)
	binary.LittleEndian.PutUint32(b[20:], uint32(len(paths)))
	for i, p := range paths {
		binary.LittleEndian.PutUint32(b[48+24*i+8:], uint32(len(b)))
		b = append(append(b, p...), 0)
	}
	return b
}

// Libraries that are found by the cache alone are known.
func TestElsewhere(t *testing.T) {
	all := []string{
		"/lib/aarch64-linux-gnu/libc.so.6", "/usr/lib/arm-linux-gnueabihf/libz.so.1", "/usr/lib/libx.so", "/lib/ld-linux-aarch64.so.1",
		"/usr/local/lib/libown.so.1", "/opt/vc/lib/libbcm_host.so", "/usr/lib/aarch64-linux-gnu/blas/libblas.so.3",
	}
	cut := CacheOf("/usr/local/lib/a.so")
	for name, c := range map[string]struct {
		cache []byte
		want  []string
	}{
		"all":              {CacheOf(all...), []string{all[5], all[6], all[4]}},
		"an older one too": {append([]byte("ld.so-1.7.0\x00older"), CacheOf(all[4])...), []string{all[4]}},
		"none":             {nil, nil},
		"no cache":         {[]byte("hello"), nil},
		"cut off":          {cut[:len(cut)-1], nil},
		"only the magic":   {cut[:30], nil},
	} {
		got := slices.Sorted(maps.Keys(elsewhere(c.cache)))
		slices.Sort(c.want)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func FuzzElsewhere(f *testing.F) {
	f.Add(CacheOf("/usr/local/lib/libown.so.1", "/lib/libc.so.6"))
	f.Add([]byte("glibc-ld.so.cache1.1\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := len(elsewhere(b)); n > len(b)/24 {
			t.Errorf("%d libraries in %d bytes", n, len(b))
		}
	})
}
