import {
  to = byok_key.shared
  identity = {
    organization_id = "org-7f3a"
    id              = "V1StGXR8_Z5jdHi6B-myT"
  }
}
