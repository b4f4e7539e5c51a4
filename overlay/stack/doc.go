// Package stack shows the layers of an image merged and alone, without anybody's upper.
package stack
