// Package keycmd has the verbs of "rubus device" that show and change boards' ssh host keys.
package keycmd
