package group

import (
	"crypto/rand"
	"fmt"
	"slices"
	"time"
)

// member is one member of a group. It is guarded by its group's lock.
type member struct {
	id, instanceID       string
	clientID, clientHost string
	sessionTimeout       time.Duration
	rebalanceTimeout     time.Duration
	protocolType         string
	protocols            []Protocol
	assignment           []byte
	joined               int64 // order of arrival; the first becomes leader

	// joining and syncing hold the answer channels of a request that waits;
	// while there is one, the session cannot run out.
	joining chan joinAnswer
	syncing chan syncAnswer
	// synced says that the member has asked for its assignment in this generation.
	synced  bool
	session *time.Timer
	// sessionRound tells a timer that fired from one that was replaced meanwhile.
	sessionRound int64
}

type joinAnswer struct {
	response JoinResponse
	err      error
}

type syncAnswer struct {
	response SyncResponse
	err      error
}

// answerJoin ends the member's waiting JoinGroup, if there is one.
func (m *member) answerJoin(r JoinResponse, err error) {
	if m.joining != nil {
		m.joining <- joinAnswer{r, err}
		m.joining = nil
	}
}

// answerSync ends the member's waiting SyncGroup, if there is one.
func (m *member) answerSync(r SyncResponse, err error) {
	if m.syncing != nil {
		m.syncing <- syncAnswer{r, err}
		m.syncing = nil
	}
}

func (m *member) stopSession() {
	m.sessionRound++
	if m.session != nil {
		m.session.Stop()
	}
}

// offers returns the metadata the member gave for a protocol.
func (m *member) offers(protocol string) ([]byte, bool) {
	for i := range m.protocols {
		if m.protocols[i].Name == protocol {
			return m.protocols[i].Metadata, true
		}
	}
	return nil, false
}

// sameProtocols reports whether the member would join with exactly what it joined with before.
func (m *member) sameProtocols(protocols []Protocol) bool {
	return slices.EqualFunc(m.protocols, protocols, func(a, b Protocol) bool {
		return a.Name == b.Name && string(a.Metadata) == string(b.Metadata)
	})
}

// newMemberID makes an id that was never given before: prefix (the instance
// id, else the client id) and a random UUID, as Kafka makes them.
func newMemberID(prefix string) string {
	var u [16]byte
	rand.Read(u[:]) // never fails, see package crypto/rand
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%s-%x-%x-%x-%x-%x", prefix, u[0:4], u[4:6], u[6:8], u[8:10], u[10:])
}
