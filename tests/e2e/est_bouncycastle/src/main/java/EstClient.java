import java.io.FileReader;
import java.io.FileWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.security.SecureRandom;
import java.security.Security;
import java.security.cert.CertificateFactory;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.security.spec.ECGenParameterSpec;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import org.bouncycastle.asn1.pkcs.PKCSObjectIdentifiers;
import org.bouncycastle.asn1.pkcs.PrivateKeyInfo;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.ExtensionsGenerator;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.GeneralNames;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.est.ESTAuth;
import org.bouncycastle.est.ESTService;
import org.bouncycastle.est.EnrollmentResponse;
import org.bouncycastle.est.jcajce.JcaHttpAuthBuilder;
import org.bouncycastle.est.jcajce.JcaJceUtils;
import org.bouncycastle.est.jcajce.JsseDefaultHostnameAuthorizer;
import org.bouncycastle.est.jcajce.JsseESTServiceBuilder;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.openssl.PEMParser;
import org.bouncycastle.openssl.jcajce.JcaPEMKeyConverter;
import org.bouncycastle.openssl.jcajce.JcaPEMWriter;
import org.bouncycastle.openssl.jcajce.JcaPKCS8Generator;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.pkcs.PKCS10CertificationRequest;
import org.bouncycastle.pkcs.jcajce.JcaPKCS10CertificationRequestBuilder;
import org.bouncycastle.util.Selector;
import org.bouncycastle.util.Store;

/**
 * A device that speaks EST with BouncyCastle's client, as its makers ship it.
 *
 * <pre>
 *   EstClient HOST:PORT LABEL TRUST cacerts OUT
 *   EstClient HOST:PORT LABEL TRUST csrattrs
 *   EstClient HOST:PORT LABEL TRUST enroll DEVICE CODE-FILE KEY-OUT CERTIFICATE-OUT
 *   EstClient HOST:PORT LABEL TRUST claim CLAIM-KEY CLAIM-CERTIFICATE DEVICE KEY-OUT CERTIFICATE-OUT
 *   EstClient HOST:PORT LABEL TRUST renew KEY CERTIFICATE NEW-KEY-OUT NEW-CERTIFICATE-OUT
 * </pre>
 */
public final class EstClient {
    public static void main(String[] words) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        Path trust = Path.of(words[2]);
        JsseESTServiceBuilder builder = new JsseESTServiceBuilder(
                words[0], JcaJceUtils.getCertPathTrustManager(anchors(trust), null));
        builder.withHostNameAuthorizer(new JsseDefaultHostnameAuthorizer(new HashSet<>()));
        builder.withLabel(words[1]);
        switch (words[3]) {
            case "cacerts" -> write(Path.of(words[4]), all(builder.build().getCACerts().getCertificateStore()));
            case "csrattrs" -> System.out.println(builder.build().getCSRAttributes().getAttributesResponse().getRequirements());
            case "enroll" -> enroll(builder.build(), words);
            case "claim" -> claim(builder, words);
            case "renew" -> renew(builder, words);
            default -> throw new IllegalArgumentException(words[3]);
        }
    }

    private static void enroll(ESTService service, String[] words) throws Exception {
        KeyPair pair = newKey();
        char[] code = Files.readString(Path.of(words[5])).strip().toCharArray();
        ESTAuth login = new JcaHttpAuthBuilder(null, words[4], code).build();
        PKCS10CertificationRequest request = request(new X500Name("CN=" + words[4]), null, pair);
        keep(service.simpleEnroll(false, request, login), pair, words[6], words[7]);
    }

    private static void claim(JsseESTServiceBuilder builder, String[] words) throws Exception {
        builder.withKeyManagers(shown(words[4], words[5]));
        KeyPair pair = newKey();
        PKCS10CertificationRequest request = request(new X500Name("CN=" + words[6]), null, pair);
        keep(builder.build().simpleEnroll(false, request, null), pair, words[7], words[8]);
    }

    private static void renew(JsseESTServiceBuilder builder, String[] words) throws Exception {
        X509CertificateHolder held = certificates(Path.of(words[5])).get(0);
        builder.withKeyManagers(shown(words[4], words[5]));
        KeyPair pair = newKey();
        GeneralNames names = GeneralNames.fromExtensions(held.getExtensions(), Extension.subjectAlternativeName);
        PKCS10CertificationRequest request = request(held.getSubject(), names, pair);
        keep(builder.build().simpleEnroll(true, request, null), pair, words[6], words[7]);
    }

    /** The leaf alone, without its chain: all that an enrollment brings. */
    private static KeyManager[] shown(String keyFile, String certificateFile) throws Exception {
        PrivateKey key;
        try (PEMParser parser = new PEMParser(new FileReader(keyFile))) {
            key = new JcaPEMKeyConverter().getPrivateKey((PrivateKeyInfo) parser.readObject());
        }
        X509Certificate leaf = (X509Certificate) CertificateFactory.getInstance("X.509")
                .generateCertificate(Files.newInputStream(Path.of(certificateFile)));
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        store.setKeyEntry("device", key, new char[0], new X509Certificate[] {leaf});
        KeyManagerFactory managers = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
        managers.init(store, new char[0]);
        return managers.getKeyManagers();
    }

    private static void keep(EnrollmentResponse answer, KeyPair pair, String key, String certificate) throws Exception {
        if (!answer.isCompleted()) {
            System.out.println("pending");
            return; // a device would ask again, with the very same request, not before getNotBefore()
        }
        write(Path.of(key), List.of(new JcaPKCS8Generator(pair.getPrivate(), null)));
        write(Path.of(certificate), all(answer.getStore()));
    }

    private static KeyPair newKey() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC");
        generator.initialize(new ECGenParameterSpec("secp256r1"), new SecureRandom());
        return generator.generateKeyPair();
    }

    private static PKCS10CertificationRequest request(X500Name subject, GeneralNames names, KeyPair pair)
            throws Exception {
        JcaPKCS10CertificationRequestBuilder builder =
                new JcaPKCS10CertificationRequestBuilder(subject, pair.getPublic());
        if (names != null) {
            ExtensionsGenerator extensions = new ExtensionsGenerator();
            extensions.addExtension(Extension.subjectAlternativeName, false, names);
            builder.addAttribute(PKCSObjectIdentifiers.pkcs_9_at_extensionRequest, extensions.generate());
        }
        return builder.build(new JcaContentSignerBuilder("SHA256withECDSA").build(pair.getPrivate()));
    }

    private static Set<TrustAnchor> anchors(Path trust) throws Exception {
        Set<TrustAnchor> found = new HashSet<>();
        CertificateFactory factory = CertificateFactory.getInstance("X.509");
        for (Object each : factory.generateCertificates(Files.newInputStream(trust))) {
            found.add(new TrustAnchor((X509Certificate) each, null));
        }
        return found;
    }

    private static List<X509CertificateHolder> certificates(Path path) throws Exception {
        List<X509CertificateHolder> found = new ArrayList<>();
        try (PEMParser parser = new PEMParser(new FileReader(path.toFile()))) {
            for (Object each = parser.readObject(); each != null; each = parser.readObject()) {
                found.add((X509CertificateHolder) each);
            }
        }
        return found;
    }

    private static List<X509CertificateHolder> all(Store<X509CertificateHolder> store) {
        Selector<X509CertificateHolder> everything = null;
        return new ArrayList<>(store.getMatches(everything));
    }

    private static void write(Path path, List<?> objects) throws Exception {
        try (JcaPEMWriter writer = new JcaPEMWriter(new FileWriter(path.toFile()))) {
            for (Object each : objects) {
                writer.writeObject(each);
            }
        }
    }
}
