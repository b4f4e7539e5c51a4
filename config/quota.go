package config

import (
	"strconv"

	"gopkg.in/yaml.v3"
)

// Bounds of a quota. With less space a board can hardly keep a log; the largest
// file system there is holds less than the most.
const (
	minQuota      = 1 << 20
	minQuotaFiles = 64
	maxQuotaFiles = 1 << 40
)

// quota reads a size, none, or {size: SIZE, files: N}.
func (r *reader) quota(n *yaml.Node, what string) Quota {
	t := r.deref(n)
	if t == nil {
		return Quota{}
	}
	if t.Kind != yaml.MappingNode {
		w, ok := r.text(t, what)
		if !ok || w.Value == "none" {
			return Quota{}
		}
		return Quota{Bytes: r.quotaSize(w, what)}
	}
	m := r.fields(t, what, []string{"size", "files"}, map[string]string{"inodes": "here as \"files\""})
	var q Quota
	if n := m["size"]; n != nil {
		if w, ok := r.text(n, what+": size"); ok {
			q.Bytes = r.quotaSize(w, what+": size")
		}
	}
	if n := m["files"]; n != nil {
		if w, ok := r.text(n, what+": files"); ok {
			files, err := strconv.ParseInt(w.Value, 10, 64)
			if err != nil || files < minQuotaFiles || files > maxQuotaFiles {
				r.addf(w, "%s: files: want a number from %d, not %q", what, minQuotaFiles, w.Value)
			}
			q.Files = files
		}
	}
	if len(t.Content) == 0 {
		r.addf(t, "%s: want a size such as 4GiB, {size: 4GiB, files: 200000} or none", what)
	}
	return q
}

func (r *reader) quotaSize(w *yaml.Node, what string) int64 {
	n, err := parseSize(w.Value)
	switch {
	case err != nil:
		r.addf(w, "%s: %v", what, err)
	case n < minQuota:
		r.addf(w, "%s: want at least %s, not %q (\"none\" is no quota)", what, sizeText(minQuota), w.Value)
	}
	return n
}
