// Package showcmd has the verbs of "rubus device" that show devices, what their boards do, and their boots.
package showcmd
