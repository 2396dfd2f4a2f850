# Checks that a webhook came through the sidecar.
#
#     ruby verify.rb SECRET_FILE SIGNATURE < body
#
# SIGNATURE is the header Sezzle-Sidecar-Signature, or an empty word if the request has none.
require "json"
require "openssl"

# Whether the sidecar signed these bytes. The body is the raw one, before any JSON parser.
def genuine?(secret, body, signature)
  OpenSSL.secure_compare(OpenSSL::HMAC.hexdigest("SHA256", secret, body), signature.to_s)
end

if $PROGRAM_NAME == __FILE__
  file, signature = ARGV
  body = $stdin.binmode.read
  abort "not signed by the sidecar: answer 401" unless genuine?(File.read(file).strip, body, signature)
  # Every delivery of an event has the same uuid.
  puts JSON.parse(body).fetch("uuid")
end
