package rebase

import (
	"bytes"
	"encoding/binary"
	"path"
	"regexp"
)

// cachePath is where programs find libraries, as ldconfig wrote it.
const cachePath = "etc/ld.so.cache"

// maxCache bounds what is read of a cache; one of a desktop has 100 kB.
const maxCache = 4 << 20

// judgeCache says whose cache of libraries holds when both sides have a new one. Nobody makes
// it anew before a package is installed, and only ldconfig on the board could put both together. What
// lies in the directories that every program looks into is found without it.
func (p *Plan) judgeCache() (Verdict, string, error) {
	board, err := p.trees.Board.ReadFile(cachePath, maxCache)
	if err != nil {
		return "", "", err
	}
	next, err := p.trees.Next.ReadFile(cachePath, maxCache)
	if err != nil {
		return "", "", err
	}
	ours, theirs := elsewhere(board), elsewhere(next)
	switch {
	case within(ours, theirs):
		return Drop, "the new version's finds all libraries", nil
	case within(theirs, ours):
		return Keep, "it finds the board's own libraries", nil
	}
	return Conflict, "both find libraries of their own by it: run ldconfig on the board afterwards", nil
}

func within(a, b map[string]bool) bool {
	for k := range a {
		if !b[k] {
			return false
		}
	}
	return true
}

// everywhere are the directories that glibc looks into without a cache.
var everywhere = regexp.MustCompile(`^(/usr)?/lib(/[^/]+-linux-gnu[^/]*)?$`)

// elsewhere lists the libraries of a cache outside those directories. What it can't read lists none.
// The format is that of glibc 2.2 and later (sysdeps/generic/dl-cache.h, struct cache_file_new); an older
// one may stand before it, and offsets count from its magic.
func elsewhere(cache []byte) map[string]bool {
	const magic, header, entry = "glibc-ld.so.cache1.1", 48, 24
	found := map[string]bool{}
	_, rest, ok := bytes.Cut(cache, []byte(magic))
	if !ok || len(rest) < header-len(magic) {
		return found
	}
	file := cache[len(cache)-len(rest)-len(magic):]
	order := binary.ByteOrder(binary.LittleEndian)
	n := int(min(order.Uint32(file[len(magic):]), uint32((len(file)-header)/entry)))
	for i := range n {
		at := int64(order.Uint32(file[header+i*entry+8:]))
		if at >= int64(len(file)) {
			continue
		}
		name, _, ok := bytes.Cut(file[at:min(int64(len(file)), at+4096)], []byte{0})
		if p := string(name); ok && path.IsAbs(p) && !everywhere.MatchString(path.Dir(p)) {
			found[p] = true
		}
	}
	return found
}
