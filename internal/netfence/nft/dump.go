package nft

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/netfence/ruleset"
)

type liveRule struct {
	chain string
	line  ruleset.Line
}

// dumpRules reads the rules of our table in one family. The library's own
// reader drops expressions that it does not know, and with them the difference
// between our rule and one that somebody has narrowed.
func dumpRules(f nftables.TableFamily) ([]liveRule, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(netlinkLimit)); err != nil {
		return nil, err
	}
	table, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_RULE_TABLE, Data: []byte(plan.TableName + "\x00")}})
	if err != nil {
		return nil, err
	}
	msgs, err := conn.Execute(netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETRULE),
			Flags: netlink.Request | netlink.Dump,
		},
		Data: append([]byte{byte(f), unix.NFNETLINK_V0, 0, 0}, table...),
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the rules of table %s: %w", plan.TableName, ruleset.Permitted(err))
	}
	var out []liveRule
	for _, m := range msgs {
		r, ours, err := parseRule(byte(f), m.Data)
		if err != nil {
			return nil, fmt.Errorf("reading a rule of table %s: %w", plan.TableName, err)
		}
		if ours {
			out = append(out, r)
		}
	}
	return out, nil
}

func parseRule(family byte, msg []byte) (r liveRule, ours bool, err error) {
	if len(msg) < 4 {
		return r, false, errors.New("the message is too short")
	}
	ad, err := netlink.NewAttributeDecoder(msg[4:])
	if err != nil {
		return r, false, err
	}
	var keys, names []string
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_RULE_TABLE:
			ours = ad.String() == plan.TableName
		case unix.NFTA_RULE_CHAIN:
			r.chain = ad.String()
		case unix.NFTA_RULE_EXPRESSIONS:
			ad.Nested(func(elems *netlink.AttributeDecoder) error {
				for elems.Next() {
					elems.Nested(func(e *netlink.AttributeDecoder) error {
						var name string
						var data []byte
						for e.Next() {
							switch e.Type() {
							case unix.NFTA_EXPR_NAME:
								name = e.String()
							case unix.NFTA_EXPR_DATA:
								data = e.Bytes()
							}
						}
						key, packets := liveKey(family, name, data)
						keys, names = append(keys, key), append(names, name)
						r.line.Packets += packets
						return nil
					})
				}
				return nil
			})
		}
	}
	r.line.Key = strings.Join(keys, " ")
	r.line.Text = "a rule of expressions " + strings.Join(names, ", ")
	return r, ours, ad.Err()
}
