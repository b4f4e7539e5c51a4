// Package names remembers what names in settled directories stand for, or that nothing has
// them.
package names
