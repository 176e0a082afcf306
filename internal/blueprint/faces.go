package blueprint

import (
	"fmt"
	"path/filepath"

	"github.com/nbidentityd/nbidentityd/internal/credserver"
	"github.com/nbidentityd/nbidentityd/internal/credserver/authtoken"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// TokenFile is where a user's token for the container face will be.
func TokenFile(set settings.Settings, u notebookuser.User) string {
	return authtoken.Path(filepath.Dir(set.Socket), uint32(u.UID))
}

// FaceURLs says where SDKs will find the faces; "" is one that the settings
// close.
func FaceURLs(set settings.Settings) (imds, container string) {
	if port := set.Faces.IMDSPort; port != 0 {
		imds = fmt.Sprintf("http://127.0.0.1:%d", port)
	}
	if port := set.Faces.ContainerPort; port != 0 {
		container = fmt.Sprintf("http://127.0.0.1:%d%s", port, credserver.ContainerPath)
	}
	return imds, container
}
