package broker

import (
	"context"
	"net"

	"github.com/millstream-io/millstream/broker/kafka"
	"github.com/millstream-io/millstream/broker/wire"
)

// protocol joins connections and requests, which know nothing of each other.
type protocol struct{ service *kafka.Service }

func (p protocol) Accept(key, version int16) wire.Verdict {
	switch served, unread := p.service.Served(key, version); {
	case unread:
		return wire.AnswerUnread
	case served:
		return wire.Answer
	default:
		return wire.Refuse
	}
}

func (p protocol) Connect(remote, local net.Addr, watch wire.Watch) wire.Session {
	return session{p.service.Connect(remote, local, kafka.Watch(watch))}
}

type session struct{ session *kafka.Session }

func (s session) Serve(ctx context.Context, r wire.Request, dst []byte) (out []byte, respond bool, err error) {
	return s.session.Serve(ctx, r.Key, r.Version, r.ClientID, r.Body, dst)
}

func (s session) Close() { s.session.Close() }
