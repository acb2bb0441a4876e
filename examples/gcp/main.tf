# The key ring, and the service account that the daemon runs as. A daemon that
# only signs can do without the second role: then keys are made by one that has it.
variable "project" {}
variable "location" { default = "europe-west3" }

resource "google_kms_key_ring" "signet" {
  project  = var.project
  name     = "signet"
  location = var.location
}

resource "google_service_account" "signet" {
  project    = var.project
  account_id = "signet"
}

resource "google_kms_key_ring_iam_member" "sign" {
  key_ring_id = google_kms_key_ring.signet.id
  role        = "roles/cloudkms.signerVerifier"
  member      = google_service_account.signet.member
}

resource "google_project_iam_custom_role" "keymaker" {
  project     = var.project
  role_id     = "signetKeymaker"
  title       = "makes, lists and destroys signing keys, and can't sign"
  permissions = [
    "cloudkms.cryptoKeys.create", "cloudkms.cryptoKeys.list",
    "cloudkms.cryptoKeyVersions.create", "cloudkms.cryptoKeyVersions.list", "cloudkms.cryptoKeyVersions.destroy",
  ]
}

resource "google_kms_key_ring_iam_member" "make" {
  key_ring_id = google_kms_key_ring.signet.id
  role        = google_project_iam_custom_role.keymaker.name
  member      = google_service_account.signet.member
}
