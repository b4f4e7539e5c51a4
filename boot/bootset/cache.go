package bootset

import (
	"sync"

	"golang.org/x/sync/singleflight"
)

// Cache remembers what is inside files that were looked into: to read the
// release of a kernel takes all of it, and a hundred boards have the same; and what the
// boot files of an image came to. The
// zero value is ready, and may be used from many goroutines.
type Cache struct {
	mu    sync.Mutex
	facts map[string]inside
	found map[string]*shared
	// reading has one reader for each file.
	reading singleflight.Group
}

// inside is what was found in a file.
type inside struct {
	releases []string
	err      error
}

// maxCached bounds the files that are remembered.
const maxCached = 512

// look gives what is inside a file; by reads it. A file without an identity is
// read each time.
func (c *Cache) look(kind string, f File, by func(File) inside) inside {
	id, ok := f.(interface{ Identity() string })
	if c == nil || !ok || id.Identity() == "" {
		return by(f)
	}
	key := kind + id.Identity()
	c.mu.Lock()
	in, ok := c.facts[key]
	c.mu.Unlock()
	if ok {
		return in
	}
	read, _, _ := c.reading.Do(key, func() (any, error) {
		in := by(f)
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.facts == nil || len(c.facts) >= maxCached {
			c.facts = map[string]inside{}
		}
		c.facts[key] = in
		return in, nil
	})
	return read.(inside)
}

func (c *Cache) kernel(f File) (string, error) {
	in := c.look("kernel:", f, func(f File) inside {
		r, err := Release(f)
		return inside{[]string{r}, err}
	})
	return in.releases[0], in.err
}

func (c *Cache) initramfs(f File) ([]string, error) {
	in := c.look("initramfs:", f, func(f File) inside {
		r, err := InitramfsReleases(f)
		return inside{r, err}
	})
	return in.releases, in.err
}
