// Package postgres follows connections that speak PostgreSQL's protocol.
package postgres

import "github.com/vedette-io/vedette/ebpf/protocol"

// Parser follows one connection. It is a protocol.Parser.
type Parser struct {
	lost int
}

var _ protocol.Parser = (*Parser)(nil)

// New gives a parser for one connection.
func New() *Parser { return &Parser{} }

// Take follows a piece.
func (p *Parser) Take(*protocol.Piece, func(*protocol.Request)) {}

// Close ends the connection.
func (p *Parser) Close(int64, func(*protocol.Request)) {}

// Lost is how often the parser lost its place.
func (p *Parser) Lost() int { return p.lost }
