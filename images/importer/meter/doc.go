// Package meter counts how far an import is, and tells it.
package meter
