// Package lint holds tests over the sources and texts of the whole repository:
// who may import whom, what a room must not do, and what the papers promise.
// There is no code in it for anybody to import.
package lint
