package images

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"rubus/images/imageref"
)

// What a store has on disk may be damaged, or another program's.

const goodManifest = `{"format":1,"ref":"lab@3","created":"2026-11-25T18:10:28Z","message":"kernel 6.12","source":"rootfs.tar.zst",
"boot":"boot/firmware","layers":[{"digest":"71e910b9f7a21b2972f1e7733cddb87b4b891025c53b2677b81dc1d78cc3a1c1","bytes":10,"files":2}]}`

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(goodManifest))
	for _, damage := range [][2]string{
		{"lab@3", "lab@4"}, {"lab@3", "../x@3"}, {"boot/firmware", "../../etc"}, {"71e910b9", "../../.."}, {`"format":1`, `"format":2`}, {"layers", "no"},
	} {
		f.Add([]byte(strings.Replace(goodManifest, damage[0], damage[1], 1)))
	}
	f.Add([]byte(goodManifest[:len(goodManifest)/2]))
	ref := imageref.Ref{Name: "lab", Version: 3}
	if _, err := parseManifest(ref, []byte(goodManifest)); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseManifest(ref, b)
		if err != nil {
			if !strings.Contains(err.Error(), `"lab@3"`) {
				t.Errorf("the error does not name the version: %v", err)
			}
			return
		}
		if v.Ref != ref || len(v.Layers) == 0 || v.Boot != BootFirmware && v.Boot != BootPlain {
			t.Fatalf("%+v", v)
		}
		for _, l := range v.Layers {
			if p := layerPath(l.Digest); !filepath.IsLocal(p) || filepath.Clean(p) != p || strings.Count(p, "/") != 1 {
				t.Fatalf("a layer lies at %q", p)
			}
		}
		again, err := json.Marshal(manifest{Format: manifestFormat, Version: v})
		if err != nil {
			return // a time that JSON has no word for
		}
		if w, err := parseManifest(ref, again); err != nil || !reflect.DeepEqual(w.Layers, v.Layers) {
			t.Fatalf("written again it is %+v, %v", w, err)
		}
	})
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"renames":[{"From":"tmp/a","To":"layers/b"}],"removes":["manifests/lab@1"]}`))
	f.Add([]byte(`{"renames":[{"From":"/etc/passwd","To":"layers/b"}]}`))
	f.Add([]byte(`{"removes":["../../home","a/../../b","",".","a//b"]}`))
	f.Add([]byte(`{"renames":[{}]}`))
	f.Add([]byte(`{"removes":["."]}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var j journal
		if json.Unmarshal(b, &j) != nil || j.check() != nil {
			return
		}
		const store = "/var/lib/rubus/images"
		for _, r := range j.Renames {
			j.Removes = append(j.Removes, r.From, r.To)
		}
		for _, p := range j.Removes {
			if full := filepath.Join(store, p); p == "." || !strings.HasPrefix(full, store+"/") {
				t.Fatalf("the change reaches %q by %q", full, p)
			}
		}
	})
}
