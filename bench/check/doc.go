// Package check writes and reads one server all the time and reports any gap
// between acknowledgement and query.
//
// One loop writes a sample of every series, and as soon as that is acknowledged
// asks for it in three ways: as an instant value, as the raw samples of the last
// while, and over a range of steps. Whatever was acknowledged must be there from
// then on, at every later question too, while the server is made to flush, to
// merge, to stop and start, and is killed. A sample without an acknowledgement
// may be there or not, but once seen it must stay.
//
// A server that takes traces is sent one with every sample, too, and asked for it
// and for older ones by id, by an attribute that only one write has, and by
// counts of all spans.
package check
