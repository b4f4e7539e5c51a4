// Package changecmd has the verbs of "rubus device" that show what a board changed, and make versions of images of it.
package changecmd
