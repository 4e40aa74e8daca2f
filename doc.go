// Package millstream is the root of the module and holds no code, only the
// laws of the tree as a test. See README.md for what Millstream is and
// ARCHITECTURE.md for where things are.
package millstream
