// Package onefs opens, lists and removes files below a directory by descriptor, never following a symbolic link and never leaving its mount.
package onefs
