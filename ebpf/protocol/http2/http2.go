// Package http2 follows HTTP/2 connections, gRPC among them.
package http2

import "github.com/vedette-io/vedette/ebpf/protocol"

// Parser follows one connection.
type Parser struct {
	lost int
}

// New returns a parser that has seen nothing.
func New() *Parser { return &Parser{} }

// Take follows a piece.
func (p *Parser) Take(*protocol.Piece, func(*protocol.Request)) {}

// Close ends the connection.
func (p *Parser) Close(int64, func(*protocol.Request)) {}

// Lost is how often the parser lost its place.
func (p *Parser) Lost() int { return p.lost }
