// Package imagecmd has the verbs of "rubus image".
package imagecmd
