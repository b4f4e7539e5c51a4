package main

import (
	"os"
	"slices"
)

// killedImages are the verbs that keep the store of images.
func killedImages() map[string]killed {
	// lab@2, which is lab's tag, and stands over lab@1.
	second := func(w *killedWorld) { w.rubus("device", "promote", killedBoard, "lab") }
	// What a shell, in the image, can run.
	busybox := func(w *killedWorld) { busyboxIn(w, "lab") }
	made := func(w *killedWorld, again bool) {
		w.has(again, w.versions(), "lab@1 lab@2, lab is 2", "lab@1 lab@2 lab@3, lab is 3", "lab@1 lab@2 lab@3 lab@4, lab is 4")
	}
	return map[string]killed{
		"import": {
			args: []string{"image", "import", "lab", "DIR/root"}, before: func(w *killedWorld) { w.put("root/etc/more", "more") },
			after: func(w *killedWorld, again bool) {
				w.has(again, w.versions(), "lab@1, lab is 1", "lab@1 lab@2, lab is 2", "lab@1 lab@2 lab@3, lab is 3")
			},
		},
		"edit": {
			args:  []string{"image", "edit", "lab", "--tag", "--", "sh", "-c", "echo new >/bin/new"},
			calls: append(changing(), mounting()...), inside: true,
			before: busybox, after: made,
		},
		"build": {
			args: []string{"image", "build", "lab", "DIR/lab.yaml", "--tag"},
			before: func(w *killedWorld) {
				busybox(w)
				w.put("file", "file")
				w.put("lab.yaml", "from: lab@2\nsteps:\n  - run: echo one >/bin/one\n  - copy: {from: file, to: /bin/file}\n")
			},
			after: made,
		},
		"tag": {args: []string{"image", "tag", "lab", "1"}, before: second, after: func(w *killedWorld, again bool) {
			w.has(again, w.versions(), "lab@1 lab@2, lab is 2", "lab@1 lab@2, lab is 1", "")
		}},
		"rm": {
			args: []string{"image", "rm", "lab@2", "lab@3", "--yes"}, done: "no version",
			before: func(w *killedWorld) {
				second(w)
				w.rubus("image", "import", "lab", w.at("root"))
				w.rubus("image", "tag", "lab", "1")
			},
			after: func(w *killedWorld, again bool) {
				w.has(again, w.versions(), "lab@1 lab@2 lab@3, lab is 1", "lab@1, lab is 1", "")
			},
		},
		"gc": {
			args: []string{"image", "gc", "--yes"},
			before: func(w *killedWorld) {
				for _, name := range []string{"etc/a", "etc/b"} {
					w.put("root/"+name, name)
					w.rubus("image", "import", "gone", w.at("root"))
				}
				w.rubus("image", "rm", "gone", "--yes")
			},
			after: func(w *killedWorld, again bool) {
				w.has(again, w.versions(), "lab@1, lab is 1", "lab@1, lab is 1", "")
				layers, err := os.ReadDir(w.at("state/images/layers"))
				if n := len(layers); err != nil || n != 1 && (again || n != 3) {
					w.t.Errorf("%d layers, %v", n, err)
				}
			},
		},
		"archive": {
			args: []string{"image", "export", "lab", "docker-archive:DIR/out/lab.tar", "--platform", "linux/arm64", "--yes"},
			before: func(w *killedWorld) {
				w.rubus("image", "export", "lab@1", "docker-archive:"+w.at("lab.tar"), "--platform", "linux/arm64")
				w.run("mkdir", w.at("out"))
				w.run("cp", w.at("lab.tar"), w.at("out"))
				second(w)
			},
			after: func(w *killedWorld, again bool) {
				w.rubusIn("elsewhere", "image", "import", "lab", "docker-archive:"+w.at("out/lab.tar"))
				isOld := slices.Equal([]byte(w.read("lab.tar")), []byte(w.read("out/lab.tar")))
				if again && isOld {
					w.t.Error("the archive is the old one")
				}
			},
		},
		"layout": {
			args: []string{"image", "export", "lab", "oci:DIR/out/lab", "--platform", "linux/arm64"}, done: "it is there already",
			before: func(w *killedWorld) { w.run("mkdir", w.at("out")) },
			after: func(w *killedWorld, again bool) {
				if _, err := os.Stat(w.at("out/lab")); err == nil || again {
					w.rubusIn("elsewhere", "image", "import", "lab", "oci:"+w.at("out/lab"))
				}
			},
		},
	}
}
