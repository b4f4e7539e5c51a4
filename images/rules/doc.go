// Package rules knows what a root file system that was made for an SD card needs to be netbooted by many boards.
//
// What it knows is data: packs.yaml says for each family and release of systems which
// rules apply, what each changes, and why. A plan is a pure function of a tree; what it
// changes goes into a layer of its own, never into the tree. A plan for a tree that
// has had its changes is empty.
//
// The tree is not trusted: links in it are followed within it, at most 40 of them,
// and no file of it is read beyond 1 MiB.
package rules
