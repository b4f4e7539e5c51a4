// Package images keeps versions of golden images as stacks of immutable, content-addressed layers.
//
// # On disk
//
//	layers/DIGEST/tree          one layer: a lower directory of overlayfs
//	layers/DIGEST/listing.zst   its canonical listing, whose SHA-256 is DIGEST (see treesum)
//	layers/DIGEST/layer.json    its size
//	manifests/NAME/VERSION.json one version: its layers, bottom first
//	manifests/NAME/next         the number of the next version; no number is used twice
//	tags/NAME                   the version that NAME alone means
//	tmp/                        what is being made or removed; never visible
//	journal                     a change that is being made, present only meanwhile
//	lock                        flock: shared to read, exclusive to change
//
// # Crashes
//
// Every change is written to the journal first, by one rename: before it nothing
// has happened, after it whoever opens the store next finishes the change. A
// directory in tmp/ belongs to the process that holds its flock; one without
// is removed by whoever opens the store.
package images
